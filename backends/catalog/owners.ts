import {
  type CachedResult,
  type InstanceIssue,
  type Result,
  errorsOf,
  toInstanceError,
  toResult,
  worstError
} from '../../lib/result.ts'
import type { Backend, CachedRead, ReadOptions } from '../cached/backend.ts'
import type { Scope } from './view.ts'

export interface OwnersDependencies {
  /** Returns the instances of a scope, in order of ownership. */
  instancesOf: (scope: Scope) => readonly Backend[]
  /** Maximum age of the cached entries that an absence rests on, in seconds. */
  negativeTtl: number
}

/** The owner of an extension and its result; or the age in seconds of the oldest absence, when no instance has it. */
export type Owned<T> = { backend: Backend, result: Result<T>, oldest?: never } | {
  backend?: never,
  result?: never,
  oldest: number
}

/**
 * Creates the reads from the owner of a name. An extension belongs to the first instance, in order of ownership, that
 * has it. An instance that is unavailable keeps its extensions: unless its last complete listing lacks the name, its
 * error is thrown.
 */
export function createOwners ({ instancesOf, negativeTtl }: OwnersDependencies) {
  async function first<T> (
    scope: Scope,
    read: (backend: Backend) => Promise<CachedResult<T | undefined>>
  ): Promise<Owned<T>> {
    const doubts: InstanceIssue[] = []
    const absences: Array<CachedResult<unknown>> = []
    for (const backend of instancesOf(scope)) {
      const result = await read(backend).catch((error: unknown) => {
        throw worstError([...errorsOf(doubts), toInstanceError(error)])
      })
      const { value, error } = result
      const stale = error === undefined ? doubts : [...doubts, { instance: backend.name, error }]
      if (value !== undefined) return { backend, result: toResult(value, [...absences, result], stale) }
      if (error !== undefined) doubts.push({ instance: backend.name, error })
      absences.push(result)
    }
    if (doubts.length > 0) throw worstError(errorsOf(doubts))
    return { oldest: Math.max(0, ...absences.map(({ age }) => age)) }
  }

  return {
    /**
     * Returns the owner's value if the caches alone decide it; undefined otherwise, also when no instance has it, and
     * nothing is counted then.
     */
    cached<T> (scope: Scope, read: (backend: Backend) => CachedRead<T | undefined> | undefined): Result<T> | undefined {
      const reads: Array<{ backend: Backend, result: CachedRead<T | undefined> }> = []
      for (const backend of instancesOf(scope)) {
        const result = read(backend)
        if (result === undefined) return undefined
        reads.push({ backend, result })
        if (result.value === undefined) continue
        for (const { backend, result } of reads) backend.use(result.uses)
        return toResult(result.value, reads.map(({ result }) => result))
      }
      return undefined
    },

    /**
     * Reads the owner's value. An absence is only returned when the cached entries are as young as a 404 requires.
     * Throws when an instance that may be the owner is unavailable.
     */
    async read<T> (
      scope: Scope,
      signal: AbortSignal,
      read: (backend: Backend, options: ReadOptions) => Promise<CachedResult<T | undefined>>
    ): Promise<Owned<T>> {
      const found = await first(scope, backend => read(backend, { signal }))
      if (found.result !== undefined || found.oldest <= negativeTtl) return found
      return await first(scope, backend => read(backend, { signal, maxAge: negativeTtl }))
    }
  }
}
export type Owners = ReturnType<typeof createOwners>
