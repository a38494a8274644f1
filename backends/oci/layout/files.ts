import { constants, type BigIntStats } from 'node:fs'
import { open, realpath, stat, type FileHandle } from 'node:fs/promises'
import { sep } from 'node:path'
import { isMissingPath } from '../../../lib/missing-path.ts'

/** The value, or undefined when what it was read from is not there. */
export async function orAbsent<T> (value: Promise<T>): Promise<T | undefined> {
  try {
    return await value
  } catch (error) {
    if (isMissingPath(error)) return undefined
    throw error
  }
}

/**
 * The real path of something at or below `root` (a real path itself); undefined when it is not there, or a link leads
 * out.
 */
export async function realInside (root: string, path: string): Promise<string | undefined> {
  const real = await orAbsent(realpath(path))
  return real !== undefined && (real === root || real.startsWith(root.endsWith(sep) ? root : root + sep))
    ? real
    : undefined
}

/** Opens a regular file inside `root` for reading; undefined when there is none. Whoever gets the handle closes it. */
export async function openInside (root: string, path: string): Promise<FileHandle | undefined> {
  const real = await realInside(root, path)
  // Opening anything but a regular file may have effects, or wait for ever.
  if (real === undefined || !(await orAbsent(stat(real)))?.isFile()) return undefined
  return await orAbsent(open(real, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0)))
}

/** What changes with every way of writing a file. */
export const fingerprint = ({ mtimeNs, ctimeNs, size, ino, dev }: BigIntStats): string =>
  `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`

/**
 * The bytes of an open file and their fingerprint; undefined when there are more than `limit`, or somebody writes to it
 * meanwhile.
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
