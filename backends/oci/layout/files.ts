import { constants, type BigIntStats } from 'node:fs'
import { open, realpath, stat, type FileHandle } from 'node:fs/promises'
import { sep } from 'node:path'
import { isMissingPath } from '../../../lib/atomic-file.ts'

/** Returns the value; undefined when the path that it is read from does not exist. */
export async function orAbsent<T> (value: Promise<T>): Promise<T | undefined> {
  try {
    return await value
  } catch (error) {
    if (isMissingPath(error)) return undefined
    throw error
  }
}

/**
 * Returns the real path of a file or directory at or below `root` (a real path itself). Returns undefined when it does
 * not exist, or a link leads out of `root`.
 */
export async function realInside (root: string, path: string): Promise<string | undefined> {
  const real = await orAbsent(realpath(path))
  return real !== undefined && (real === root || real.startsWith(root.endsWith(sep) ? root : root + sep))
    ? real
    : undefined
}

/**
 * Opens a regular file inside `root` for reading; undefined when it does not exist or is another kind of file. The
 * caller closes the handle.
 */
export async function openInside (root: string, path: string): Promise<FileHandle | undefined> {
  const real = await realInside(root, path)
  // Opening another kind of file, such as a pipe, may have effects or never end.
  if (real === undefined || !(await orAbsent(stat(real)))?.isFile()) return undefined
  return await orAbsent(open(real, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0)))
}

/** Returns a text that changes with every write to a file. */
export const fingerprint = ({ mtimeNs, ctimeNs, size, ino, dev }: BigIntStats): string =>
  `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`

/**
 * Returns the bytes of an open file and their fingerprint. Returns undefined when there are more than `limit` bytes, or
 * the file changes while it is read.
 */
export async function readWhole (
  handle: FileHandle,
  limit: number
): Promise<{ bytes: Buffer, print: string } | undefined> {
  const before = await handle.stat({ bigint: true })
  if (before.size > BigInt(limit)) return undefined
  const bytes = await handle.readFile()
  const print = fingerprint(await handle.stat({ bigint: true }))
  return print === fingerprint(before) ? { bytes, print } : undefined
}
