import { mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Codes of file system errors that prove that a path does not exist. A loop of links and a name that is too long are
 * included.
 */
const missingCodes: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'])

/** Returns whether an error of the file system means that the path does not exist. */
export function isMissingPath (error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && missingCodes.has(error.code)
}

/** A file that is written at a temporary path and renamed when it is complete. Only its owner can read it. */
export interface AtomicFile {
  /** The open file, for reading and writing. */
  handle: FileHandle
  /**
   * Flushes the file and moves it to `place`, where it replaces an existing file. The handle stays open. Without
   * `flush` the content may be incomplete after a crash of the system, and the caller must verify it.
   */
  commit: (place: string, options?: { flush?: boolean }) => Promise<void>
  /** Closes the handle, and removes the file unless it was committed. */
  close: () => Promise<void>
}

/** Runs `work`, again after making the directory of `path` if that is missing. */
async function withDirectoryOf<T> (path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!isMissingPath(error)) throw error
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    return await work()
  }
}

/**
 * Creates a file at `aside`, which must not exist and must be on the same file system as its final path. The function
 * and its methods throw system errors.
 */
export async function createAtomicFile (aside: string): Promise<AtomicFile> {
  const handle = await withDirectoryOf(aside, async () => await open(aside, 'wx+', 0o600))
  let committed = false
  return {
    handle,
    async commit (place, { flush = true } = {}) {
      // The content is flushed before the rename, so that an incomplete file never has the final name after a crash.
      if (flush) await handle.sync()
      await withDirectoryOf(place, async () => { await rename(aside, place) })
      committed = true
    },
    async close () {
      await handle.close().finally(async () => { if (!committed) await rm(aside, { force: true }) })
    }
  }
}

/**
 * Replaces the file at `place` by the output of `write`. If that fails, keeps the existing file and throws the error.
 */
export async function writeAtomically (
  aside: string, place: string, write: (handle: FileHandle) => Promise<void>
): Promise<void> {
  const file = await createAtomicFile(aside)
  try {
    await write(file.handle)
    await file.commit(place)
  } finally {
    // An earlier error is reported instead; after the flush, an error on close loses no content.
    await file.close().catch(() => {})
  }
}
