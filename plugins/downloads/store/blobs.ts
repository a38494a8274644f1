import { constants } from 'node:fs'
import { open, readdir, rm, stat, utimes, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { isMissingPath } from '../../../lib/atomic-file.ts'
import { readDigest, usableDigest } from './digest.ts'
import { createStoreIndex, type StoreIndex, type StoreEntry, type FoundFile } from './entries.ts'
import { type StoreHealth, orNone, type StorePaths } from './directory.ts'
import { createPartialFiles, type PartialFile } from './partial-files.ts'

export interface BlobsOptions {
  names: StorePaths
  health: StoreHealth
  /** Maximum bytes of all files, including files that are being written. */
  maxBytes: number
  /** Returns the milliseconds of a monotonic clock. */
  clock: () => number
  onDamage?: () => void
}

/** Content that is open for reading. `release` must be called once. */
export interface StoredFile { handle: FileHandle, size: number, release: () => void }

/** Minimum milliseconds between two records of a use on disk, which preserve the order of use across restarts. */
const noteUseMs = 60_000
/** Milliseconds after which the directory is read again, to find files of other processes. */
const rescanMs = 60_000

/** Lists the stored files on disk. */
async function listFiles ({ blobs }: StorePaths): Promise<FoundFile[]> {
  const found: FoundFile[] = []
  for (const algorithm of await orNone(readdir(blobs))) {
    for (const part of await orNone(readdir(join(blobs, algorithm)))) {
      const directory = join(blobs, algorithm, part)
      await Promise.all((await orNone(readdir(directory))).map(async name => {
        const digest = usableDigest(`${algorithm}:${name}`)
        if (digest === undefined) return
        // Only a file that was removed in the meantime is skipped.
        const [status] = await orNone(stat(join(directory, name)).then(one => [one]))
        if (status !== undefined) found.push({ digest, size: status.size, used: status.mtimeMs })
      }))
    }
  }
  return found
}

/** Records a use in the index and, at intervals, on disk. */
function createUses ({ names, clock }: Pick<BlobsOptions, 'names' | 'clock'>, entries: StoreIndex) {
  return function noteUse (digest: string, entry: StoreEntry): void {
    entries.touch(digest, entry)
    if (clock() - entry.used < noteUseMs) return
    entry.used = clock()
    const now = new Date()
    // A failure is ignored, because the store is usable in a read-only directory.
    utimes(names.blob(digest), now, now).catch(() => {})
  }
}
type NoteUse = ReturnType<typeof createUses>

/** Removes stored files. During its removal a file is neither opened nor replaced. */
function createRemovals ({ names, health }: Pick<BlobsOptions, 'names' | 'health'>) {
  const removals = new Map<string, Promise<void>>()
  return {
    async remove (digest: string): Promise<void> {
      const removal = rm(names.blob(digest), { force: true }).catch(health.failed).finally(() => {
        if (removals.get(digest) === removal) removals.delete(digest)
      })
      removals.set(digest, removal)
      await removal
    },

    /** Waits until the removal of a file has ended. */
    async wait (digest: string): Promise<void> {
      while (removals.has(digest)) await removals.get(digest)
    }
  }
}
type Removals = ReturnType<typeof createRemovals>

/** Opens stored files. A file is verified at its first use, and removed if it is damaged. */
function createOpener (
  { names, health, onDamage }: BlobsOptions,
  entries: StoreIndex,
  removals: Removals,
  noteUse: NoteUse
) {
  const checks = new Map<string, Promise<boolean>>()
  let damaged = 0

  /** Returns whether the content of a file has its digest. The file is read once. */
  async function isIntact (digest: string, entry: StoreEntry, handle: FileHandle): Promise<boolean> {
    if (entry.checked) return true
    let check = checks.get(digest)
    if (check === undefined) {
      check = readDigest(handle, digest).then(found => found === digest).finally(() => { checks.delete(digest) })
      checks.set(digest, check)
    }
    entry.checked = await check
    return entry.checked
  }

  async function drop (digest: string): Promise<void> {
    damaged++
    onDamage?.()
    entries.forget(digest)
    await removals.remove(digest)
  }

  async function openKept (digest: string): Promise<StoredFile | undefined> {
    const handle = await open(names.blob(digest), constants.O_RDONLY | constants.O_NOFOLLOW)
    const status = await handle.stat().catch(async (error: unknown) => {
      await handle.close()
      throw error
    })
    const entry = entries.get(digest) ?? entries.remember(digest, status.size, false)
    entry.readers++
    const release = () => {
      entry.readers--
      handle.close().catch(health.failed)
    }
    try {
      if (status.isFile() && status.size === entry.size && await isIntact(digest, entry, handle)) {
        noteUse(digest, entry)
        return { handle, size: status.size, release }
      }
      if (entries.get(digest) === entry) await drop(digest)
    } catch (error) {
      release()
      throw error
    }
    release()
    return undefined
  }

  return {
    /** Opens a file; undefined when it is damaged. Throws system errors. */
    async open (digest: string): Promise<StoredFile | undefined> {
      await removals.wait(digest)
      const letGo = entries.keep(digest)
      return await openKept(digest).finally(letGo)
    },
    damaged: (): number => damaged
  }
}

/**
 * Creates the store of verified content, keyed by digest, in a directory with a maximum size. The least recently used
 * file is removed first, but never a file with readers. Disk errors are not thrown: an unreadable file counts as
 * absent, and a full disk as a full store. Files of an earlier process are verified at their first use.
 */
export function createBlobs (options: BlobsOptions) {
  const { names, health, maxBytes, clock } = options
  const removals = createRemovals(options)
  const entries = createStoreIndex(maxBytes, digest => { void removals.remove(digest) })
  const noteUse = createUses(options, entries)
  const opener = createOpener(options, entries, removals, noteUse)
  const createFile = createPartialFiles({ ...options, entries, removals, noteUse })
  const counts = { hits: 0, misses: 0 }
  let scannedAt = -Infinity

  async function scan (): Promise<void> {
    scannedAt = clock()
    const before = entries.digests()
    entries.update(before, await listFiles(names))
  }

  const ready = (async () => {
    await names.clean().catch((error: unknown) => { if (!isMissingPath(error)) throw error })
    await scan()
  })().catch(health.failed)

  return {
    /** Resolves after the directory was read, even if that failed. */
    ready,

    /** Opens the content of a digest and, if known, of `size` bytes; undefined when it is absent or damaged. */
    async open (digest: string, size?: number): Promise<StoredFile | undefined> {
      await ready
      try {
        const found = await opener.open(digest)
        if (found !== undefined && size !== undefined && found.size !== size) {
          found.release()
          return undefined
        }
        if (found === undefined) counts.misses++
        else counts.hits++
        return found
      } catch (error) {
        counts.misses++
        if (isMissingPath(error)) entries.forget(digest)
        else health.failed(error)
        return undefined
      }
    },

    /** Returns whether the index contains such content. */
    has (digest: string, size?: number): boolean {
      const entry = entries.get(digest)
      return entry !== undefined && (size === undefined || size === entry.size)
    },

    /**
     * Creates a file for content of `size` bytes, if that is known; undefined when it cannot be stored. Stored files
     * are not removed for it yet.
     */
    async create (size = 0): Promise<PartialFile | undefined> {
      if (!health.usable) return undefined
      await ready
      if (clock() - scannedAt > rescanMs) await scan().catch(health.failed)
      if (!health.usable || !entries.fits(size)) return undefined
      try {
        return await createFile()
      } catch (error) {
        health.failed(error)
        return undefined
      }
    },

    statistics: () => ({ ...counts, damaged: opener.damaged(), ...entries.statistics() }),

    /** Removes the files that this process is writing. */
    async close (): Promise<void> {
      await ready
      await rm(names.own, { recursive: true, force: true }).catch(health.failed)
    }
  }
}
export type Blobs = ReturnType<typeof createBlobs>
