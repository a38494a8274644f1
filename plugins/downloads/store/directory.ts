import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { readdir, rm, stat } from 'node:fs/promises'
import { homedir, hostname } from 'node:os'
import { isAbsolute, join } from 'node:path'
import type { FastifyBaseLogger } from 'fastify'
import { isMissingPath } from '../../../lib/atomic-file.ts'
import { algorithmOf, encodedOf } from './digest.ts'

/*
 * Layout of the store on disk. Files are written under a unique temporary name and then renamed, so several processes
 * can share one directory without locks.
 *
 *     {directory}/
 *       blobs/{algorithm}/{ab}/{hex}    verified content, named by its digest; `ab` are the first two digits
 *       pins/{ab}/{hex}.json            digest of a version's file that has no published checksum
 *       tmp/{space}-{pid}-{start}-{id}/ incomplete files of one store of one process, removed with it
 *
 * `space` identifies the machine and its PID namespace, and `start` is the start time of the process. The directory of
 * a process that has ended is removed at the next start of a process in the same space. Processes of other machines and
 * containers cannot be checked. Their directories are removed after a time without writes that exceeds the longest
 * silence of a transfer.
 */

/**
 * Milliseconds without a write after which a directory of another machine or container is removed. A transfer can
 * receive no data for an hour.
 */
const leftOver = 2 * 60 * 60 * 1000

const digestHex = (text: string, length: number): string =>
  createHash('sha256').update(text).digest('hex').slice(0, length)

/**
 * Returns the directory for caches of this user (XDG Base Directory Specification); undefined for a user without a home
 * directory.
 */
export function cacheHome (environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const { XDG_CACHE_HOME: configured } = environment
  if (configured !== undefined && isAbsolute(configured)) return configured
  try {
    const home = homedir()
    return isAbsolute(home) ? join(home, '.cache') : undefined
  } catch {
    return undefined
  }
}

/**
 * Returns the default directory of the store. It depends on the set of upstreams, so that registries do not share one
 * by accident.
 */
export function defaultDirectory (upstreams: readonly string[], environment = process.env): string | undefined {
  const home = cacheHome(environment)
  return home === undefined
    ? undefined
    : join(home, 'extension-registry', digestHex(JSON.stringify([...upstreams].sort()), 16))
}

/** Returns the identifier of the machine and the PID namespace. */
function space (): string {
  let namespace = ''
  try {
    namespace = readlinkSync('/proc/self/ns/pid')
  } catch {}
  return digestHex(`${hostname()} ${namespace}`, 12)
}

/**
 * Returns the start time of a process, which reveals that its number was reused; undefined when the system does not
 * report it.
 */
function startOf (pid: number): string | undefined {
  try {
    // The name of the program, in parentheses, may contain any characters.
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ')[19]
  } catch {
    return undefined
  }
}

function lives (pid: number, start: string): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return false
  }
  const since = startOf(pid)
  return since === undefined || since === start
}

/**
 * Returns the time of the last write in a directory, in milliseconds since the epoch. Returns the current time for an
 * unreadable directory, so that it is kept.
 */
async function lastWritten (directory: string): Promise<number> {
  try {
    const names = [directory, ...(await readdir(directory)).map(name => join(directory, name))]
    return Math.max(...await Promise.all(names.map(async name => (await stat(name)).mtimeMs)))
  } catch {
    return Date.now()
  }
}

/** Returns the names, or an empty list when their directory does not exist. */
export const orNone = async <T>(names: Promise<T[]>): Promise<T[]> => await names.catch((error: unknown) => {
  if (isMissingPath(error)) return []
  throw error
})

/** Creates the paths in the directory of a store. */
export function createStorePaths (directory: string) {
  const tmp = join(directory, 'tmp')
  const own = join(tmp, `${space()}-${process.pid}-${startOf(process.pid) ?? 0}-${randomBytes(4).toString('hex')}`)
  return {
    blobs: join(directory, 'blobs'),
    /** Directory of the files that this store is writing. */
    own,
    blob: (digest: string): string =>
      join(directory, 'blobs', algorithmOf(digest), encodedOf(digest).slice(0, 2), encodedOf(digest)),
    pin (key: string): string {
      const name = digestHex(key, 64)
      return join(directory, 'pins', name.slice(0, 2), `${name}.json`)
    },
    aside: (): string => join(own, randomBytes(8).toString('hex')),

    /** Removes incomplete files of processes that have ended. */
    async clean (): Promise<void> {
      for (const name of await readdir(tmp)) {
        const path = join(tmp, name)
        const [where, pid, start = ''] = name.split('-')
        const here = where === space() && pid !== undefined
        const over = here ? !lives(Number(pid), start) : Date.now() - await lastWritten(path) > leftOver
        if (over) await rm(path, { recursive: true, force: true })
      }
    }
  }
}
export type StorePaths = ReturnType<typeof createStorePaths>

/** Milliseconds for which a directory is not used after a failure. */
const rest = 60_000

/**
 * Creates the health of the store's directory. A failure disables the store for a while, and is logged once until the
 * store works again. Downloads continue without the store.
 */
export function createStoreHealth (
  { enabled, log, clock }: { enabled: boolean, log: Pick<FastifyBaseLogger, 'warn' | 'info'>, clock: () => number }
) {
  let failedAt: number | undefined
  let failures = 0
  return {
    /** Whether the directory is used now. */
    get usable () { return enabled && (failedAt === undefined || clock() - failedAt >= rest) },
    /** Number of failures since the start. */
    get failures () { return failures },

    failed (error: unknown): void {
      failures++
      if (failedAt === undefined) {
        log.warn(
          { err: error },
          'the store cannot write to its directory: downloads continue without it; check the directory'
        )
      }
      failedAt = clock()
    },

    worked (): void {
      if (failedAt !== undefined) log.info('the store can write to its directory again')
      failedAt = undefined
    }
  }
}
export type StoreHealth = ReturnType<typeof createStoreHealth>
