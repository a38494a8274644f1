import { constants, type BigIntStats } from 'node:fs'
import { open, realpath, stat, readdir, type FileHandle } from 'node:fs/promises'
import { sep, join } from 'node:path'
import { isMissingPath } from '../../../lib/atomic-file.ts'
import { isPathPart } from '../../../schemas/name.ts'

/** Maximum depth of the directories that are read below a namespace. */
const maxDepth = 16
/** Maximum number of directories that are read. */
const maxDirectories = 20_000

/**
 * Returns the directory of a repository in a tree; undefined when it does not exist, or its name leads out of the tree.
 */
export async function directoryOf (root: string, repository: string): Promise<string | undefined> {
  const parts = repository.split('/')
  return parts.every(part => isPathPart(part)) ? await realInside(root, join(root, ...parts)) : undefined
}

/**
 * Returns the repositories at and below a namespace of a tree, each with one layout. Directories beyond the limits, and
 * those that cannot be read, make the result `truncated`. Throws when the namespace itself cannot be read.
 */
export async function findLayouts (
  root: string,
  namespace: string
): Promise<{ names: string[], truncated: boolean }> {
  const names: string[] = []
  let left = maxDirectories
  let truncated = false

  /** Returns the real directory of an entry; undefined when it is not a directory inside the root. */
  async function subdirectory (directory: string, name: string): Promise<string | undefined> {
    const real = await realInside(root, join(directory, name))
    return real !== undefined && (await stat(real)).isDirectory() ? real : undefined
  }

  async function visit (directory: string, name: string, above: readonly string[]): Promise<void> {
    if (left-- <= 0 || above.length > maxDepth) {
      truncated = true
      return
    }
    const entries = await readdir(directory, { withFileTypes: true }).catch((error: unknown) => {
      if (above.length === 0) throw error
      // A directory that no longer exists has no repositories; one that cannot be read may have some.
      if (!isMissingPath(error)) truncated = true
      return []
    })
    const isLayout = entries.some(entry => entry.name === 'oci-layout')
    if (isLayout && name !== '') names.push(name)
    await Promise.all(entries.map(async entry => {
      if (!isPathPart(entry.name) || !(entry.isDirectory() || entry.isSymbolicLink())) return
      if (isLayout && entry.name === 'blobs') return
      const real = await subdirectory(directory, entry.name).catch((error: unknown) => {
        if (!isMissingPath(error)) truncated = true
      })
      if (real === undefined || real === directory || above.includes(real)) return
      await visit(real, name === '' ? entry.name : `${name}/${entry.name}`, [...above, directory])
    }))
  }
  const start = namespace === '' ? root : await directoryOf(root, namespace)
  if (start !== undefined) await visit(start, namespace, [])
  return { names: names.sort(), truncated }
}

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
