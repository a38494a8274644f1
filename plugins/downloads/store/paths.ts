import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { readdir, rm, stat } from 'node:fs/promises'
import { homedir, hostname } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { isMissingPath } from '../../../lib/missing-path.ts'
import { algorithmOf, encodedOf } from './digest.ts'

/*
 * The store on disk. Nothing is locked: what is written is written aside, under a name of its own, and moved to its
 * place whole, so that several processes may share one directory.
 *
 *     {directory}/
 *       blobs/{algorithm}/{ab}/{hex}    verified content, named by its digest; `ab` are the first two digits
 *       pins/{ab}/{hex}.json            what was found under a version whose publisher tells no checksum
 *       tmp/{space}-{pid}-{start}-{id}/ what one store of one process is writing; gone with it
 *
 * `space` stands for the machine and its PID namespace, `start` for when the process began: a directory whose process
 * is gone is removed at the next start. Of other machines and containers nobody here can tell which processes live: of
 * theirs goes what was not written to for longer than any transfer may be silent.
 */

/**
 * Milliseconds without a byte after which another machine's half files are left over; a transfer may be silent for an
 * hour.
 */
const leftOver = 2 * 60 * 60 * 1000

const digestHex = (text: string, length: number): string =>
  createHash('sha256').update(text).digest('hex').slice(0, length)

/** Where caches of this user are (XDG Base Directory Specification); undefined for a user without a home. */
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
 * The directory when none is configured: one for each set of upstreams, so that two registries share nothing by chance.
 */
export function defaultDirectory (upstreams: readonly string[], environment = process.env): string | undefined {
  const home = cacheHome(environment)
  return home === undefined
    ? undefined
    : join(home, 'extension-registry', digestHex(JSON.stringify([...upstreams].sort()), 16))
}

/** Of what a directory was named: machine and PID namespace. */
function space (): string {
  let namespace = ''
  try {
    namespace = readlinkSync('/proc/self/ns/pid')
  } catch {}
  return digestHex(`${hostname()} ${namespace}`, 12)
}

/** When a process began, as far as the system tells: its number may be another one's by now. */
function startOf (pid: number): string | undefined {
  try {
    // The name of the program, which stands in parentheses, may hold anything.
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

/** When something in a directory was last written to; 0 when nobody can say. */
async function lastWritten (directory: string): Promise<number> {
  try {
    const names = [directory, ...(await readdir(directory)).map(name => join(directory, name))]
    return Math.max(...await Promise.all(names.map(async name => (await stat(name)).mtimeMs)))
  } catch {
    return Date.now()
  }
}

/** Names, or none where what would have them is not there. */
export const orNone = async <T>(names: Promise<T[]>): Promise<T[]> => await names.catch((error: unknown) => {
  if (isMissingPath(error)) return []
  throw error
})

/** Names in the directory of a store. */
export function createStorePaths (directory: string) {
  const tmp = join(directory, 'tmp')
  const own = join(tmp, `${space()}-${process.pid}-${startOf(process.pid) ?? 0}-${randomBytes(4).toString('hex')}`)
  return {
    blobs: join(directory, 'blobs'),
    /** Where what is being written is. */
    own,
    blob: (digest: string): string =>
      join(directory, 'blobs', algorithmOf(digest), encodedOf(digest).slice(0, 2), encodedOf(digest)),
    pin (key: string): string {
      const name = digestHex(key, 64)
      return join(directory, 'pins', name.slice(0, 2), `${name}.json`)
    },
    aside: (): string => join(own, randomBytes(8).toString('hex')),

    /** Removes what processes that are gone have left half written. */
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
