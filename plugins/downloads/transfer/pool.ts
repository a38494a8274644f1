import type { Blobs } from '../store/blobs.ts'
import { openVerifiedSource, type VerifiedSourceOptions } from './verified-source.ts'
import { createTransfer, type Transfer } from './transfer.ts'

export interface PoolOptions {
  blobs: Blobs
  /** Bytes up to which a file is fetched to its end though nobody waits for it any more. */
  finishBytes: number
  onRefused: (error: unknown) => void
}

/** A file under way, or about to be; `apart` when it can't be kept, so that everybody fetches it alone. */
type Opening = Promise<Transfer | 'apart' | undefined>
interface Shared {
  opening: Opening
  transfer?: Transfer
  interest: number
  size: number | undefined
  finish: boolean
  stop: AbortController
}

/** A share in a transfer, until it is left. */
export interface Share { opening: Opening, first: boolean, leave: () => void }

/** Transfers that nobody waits for, at most. */
const maxAbandoned = 8

/** The transfers under way, one for each key at a time. */
export function createPool ({ blobs, finishBytes, onRefused }: PoolOptions) {
  const shares = new Map<string, Shared>()
  /** What was begun and is not over, also where nobody can join it any more. */
  const running = new Set<Promise<void>>()

  async function end (opening: Opening): Promise<void> {
    try {
      const transfer = await opening
      if (transfer !== 'apart') await transfer?.done
    } catch {
      // Whoever waits sees the failure; when nobody does, it is nobody's.
    }
  }

  async function start (
    key: string,
    sourceOptions: Omit<VerifiedSourceOptions, 'signal'>,
    shared: Shared
  ): Promise<Transfer | 'apart' | undefined> {
    const forget = () => {
      if (shares.get(key) === shared) shares.delete(key)
    }
    const { signal } = shared.stop
    let partial
    let source
    try {
      partial = await blobs.create(sourceOptions.file.size)
      if (partial === undefined) {
        forget()
        return 'apart'
      }
      signal.throwIfAborted()
      source = await openVerifiedSource({ ...sourceOptions, signal })
      // Only for what can be had others go.
      if (source !== undefined && partial.reserve(source.size ?? 0)) {
        shared.size = source.size
        shared.transfer = createTransfer({
          source,
          partial,
          abort: () => {
            shared.stop.abort()
          },
          onRefused,
          onEnd: forget
        })
        return shared.transfer
      }
    } catch (error) {
      forget()
      await partial?.close()
      throw error
    }
    forget()
    shared.stop.abort()
    source?.discard()
    await partial.close()
    return source === undefined ? undefined : 'apart'
  }

  function leave (key: string, shared: Shared): void {
    shared.interest--
    if (shared.interest > 0 || shared.transfer?.over === true || shared.transfer?.verified === true) return
    const abandoned = [...shares.values()].filter(({ interest }) => interest === 0).length
    // Where nothing has come yet nothing is lost, and the next one need not wait for what may be stuck.
    if (
      shared.transfer !== undefined && (shared.finish || (shared.size ?? Infinity) <= finishBytes) &&
      abandoned <= maxAbandoned
    ) return
    if (shares.get(key) === shared) shares.delete(key)
    shared.stop.abort()
  }

  return {
    /** Files under way. */
    active: (): number => shares.size,

    /**
     * Takes a share in the transfer of a key, which is started where there is none. With `finish` it goes on to its
     * end, however large, when all have left.
     */
    join (key: string, sourceOptions: Omit<VerifiedSourceOptions, 'signal'>, { finish = false } = {}): Share {
      let shared = shares.get(key)
      const first = shared === undefined
      if (shared === undefined) {
        const begun: Shared = {
          opening: Promise.resolve(undefined),
          interest: 0,
          size: sourceOptions.file.size,
          finish,
          stop: new AbortController()
        }
        shares.set(key, begun)
        begun.opening = start(key, sourceOptions, begun)
        const work = end(begun.opening).finally(() => { running.delete(work) })
        running.add(work)
        shared = begun
      }
      const taken = shared
      taken.interest++
      taken.finish ||= finish
      let left = false
      return {
        opening: taken.opening,
        first,
        leave () {
          if (!left) leave(key, taken)
          left = true
        }
      }
    },

    has: (key: string): boolean => shares.has(key),

    /** Stops everything, and waits until it is over. */
    async close (): Promise<void> {
      for (const { stop } of shares.values()) stop.abort()
      await Promise.all(running)
    }
  }
}
export type Pool = ReturnType<typeof createPool>
