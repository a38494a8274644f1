import type { FileHandle } from 'node:fs/promises'
import pLimit from 'p-limit'
import { createAtomicFile } from '../../../lib/atomic-file.ts'
import type { StoreEntry, StoreIndex } from './entries.ts'
import type { StoreHealth, StorePaths } from './directory.ts'

/** Content that is being written. */
export interface PartialFile {
  handle: FileHandle
  /** Reserves `bytes` in total; false when the store is full. */
  reserve: (bytes: number) => boolean
  /** Reserves `bytes` in addition to the bytes already written; false when the store is full. */
  grow: (bytes: number) => boolean
  /** Stores the file under its digest; it stays open, and is flushed in the background. Returns false on failure. */
  commit: (digest: string) => Promise<boolean>
  /** Closes the file, and removes it unless it was committed. */
  close: () => Promise<void>
}

export interface PartialFilesOptions {
  names: StorePaths
  health: StoreHealth
  entries: StoreIndex
  removals: {
    /** Waits until the removal of a stored file has ended. */
    wait: (digest: string) => Promise<void>
    /** Removes a stored file. */
    remove: (digest: string) => Promise<void>
  }
  /** Records a use of a stored file. */
  noteUse: (digest: string, entry: StoreEntry) => void
}

/**
 * Number of files that are flushed at the same time. The file system writes them together; reads and writes need the
 * fourth thread of Node.js.
 */
const concurrentFlushes = 3
/** Maximum number of files that wait to be flushed, each of which stays open. */
const maxUnflushed = 64

/**
 * Creates the function that flushes a stored file to disk, a few at the same time. The file is already in use: after a
 * crash of the system its content may be incomplete, which its verification at the first use shows. An error shows that
 * the disk may lose content, so the file is then removed.
 */
function createFlush ({ health, entries, removals }: Pick<PartialFilesOptions, 'health' | 'entries' | 'removals'>) {
  const limit = pLimit(concurrentFlushes)
  return {
    /** Whether a new file must wait until its flush has ended. */
    isBusy: (): boolean => limit.pendingCount >= maxUnflushed,

    async flush (handle: FileHandle, digest: string, entry: StoreEntry): Promise<void> {
      try {
        await limit(async () => { await handle.datasync() })
      } catch (error) {
        health.failed(error)
        if (entries.get(digest) !== entry) return
        entries.forget(digest)
        await removals.remove(digest)
      }
    }
  }
}

/** Creates the function that creates a file to be written to the store. It throws system errors. */
export function createPartialFiles ({ names, health, entries, removals, noteUse }: PartialFilesOptions) {
  const { isBusy, flush } = createFlush({ health, entries, removals })
  return async function create (): Promise<PartialFile> {
    const file = await createAtomicFile(names.aside())
    let own = 0
    let written = 0
    let stored: StoreEntry | undefined
    let flushed: Promise<void> | undefined
    const freeOwn = () => {
      entries.free(own)
      own = 0
    }
    const reserve = (total: number): boolean => {
      const missing = Math.max(0, total - own)
      if (!entries.reserve(missing)) return false
      own += missing
      return true
    }
    return {
      handle: file.handle,
      reserve,
      grow: more => reserve(written += more),
      async commit (digest) {
        await removals.wait(digest)
        const letGo = entries.keep(digest)
        try {
          await file.commit(names.blob(digest), { flush: false })
        } catch (error) {
          health.failed(error)
          return false
        } finally {
          letGo()
        }
        freeOwn()
        stored = entries.remember(digest, written, true)
        stored.readers++
        noteUse(digest, stored)
        health.worked()
        flushed = flush(file.handle, digest, stored)
        if (isBusy()) await flushed
        return true
      },
      async close () {
        freeOwn()
        await flushed
        await file.close().catch(health.failed)
        if (stored !== undefined) stored.readers--
      }
    }
  }
}
