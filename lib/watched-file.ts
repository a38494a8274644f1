import { open, stat } from 'node:fs/promises'
import { getSystemErrorMessage } from 'node:util'
import type { FastifyBaseLogger } from 'fastify'

/** The reason why the content of a file cannot be used. Its message never contains the content or the path. */
export class FileProblem extends Error {
  override readonly name = 'FileProblem'
  /** Whether a file exists at the path. A path without a file may be a secret that was written under the wrong key. */
  readonly exists: boolean

  constructor (message: string, { exists = true }: { exists?: boolean } = {}) {
    super(message)
    this.exists = exists
  }
}

/** Methods of a logger that a watched file uses. */
export type FileLog = Pick<FastifyBaseLogger, 'info' | 'error'>

/** Returns UTF-8 bytes as text, without a byte order mark. Throws a {@link FileProblem} for other bytes. */
export function decodeUtf8 (bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new FileProblem('expected UTF-8')
  }
}

/** Throws a {@link FileProblem} for UTF-16, and for NUL characters, which text files do not have. */
export function refuseOtherEncodings (bytes: Uint8Array): void {
  const [first, second] = bytes
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)) {
    throw new FileProblem('expected UTF-8, but the file is UTF-16')
  }
  // UTF-16 without a byte order mark contains many NUL characters.
  if (bytes.includes(0)) throw new FileProblem('expected text, but the file holds NUL characters')
}

/** Returns the text of a file in UTF-8, without a byte order mark. Throws a {@link FileProblem} for other files. */
export function decodeText (bytes: Uint8Array): string {
  refuseOtherEncodings(bytes)
  return decodeUtf8(bytes)
}

/** Returns a {@link FileProblem} in place of an error of the file system; other errors are returned unchanged. */
function problemOf (error: unknown): unknown {
  if (!(error instanceof Error && 'errno' in error && typeof error.errno === 'number')) return error
  const exists =
    !('code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR' || error.code === 'ENAMETOOLONG'))
  // The cause is omitted, because its message contains the path.
  return new FileProblem(`expected a file that can be read: ${getSystemErrorMessage(error.errno)}`, { exists })
}

/** Returns the bytes of a regular file of at most `limit` bytes. Throws a {@link FileProblem}. */
export async function readBounded (path: string, limit: number): Promise<Buffer> {
  try {
    // A pipe or a device could block or never end, and could not be read a second time.
    if (!(await stat(path)).isFile()) throw new FileProblem('expected a regular file')
    const file = await open(path)
    try {
      const buffer = Buffer.alloc(limit + 1)
      let length = 0
      for (let read = -1; read !== 0 && length <= limit; length += read) {
        read = (await file.read(buffer, length, limit + 1 - length)).bytesRead
      }
      if (length > limit) throw new FileProblem(`expected at most ${limit} bytes`)
      return buffer.subarray(0, length)
    } finally {
      await file.close()
    }
  } catch (error) {
    throw problemOf(error)
  }
}

/**
 * Content of a file: a value, or the reason why it cannot be used. `changed` is true on the first call after a change.
 */
export type Outcome<T> = { changed: boolean, exists: boolean } & ({ value: T } | { problem: FileProblem })

/**
 * Returns a function that returns the parsed content of a file. It checks the file with `stat` at each call and reads
 * it again after a change, because Kubernetes replaces a symbolic link without notice. `parse` throws a {@link
 * FileProblem}.
 */
export function watchFile<T> (path: string, limit: number, parse: (bytes: Buffer) => T): () => Promise<Outcome<T>> {
  let known: { stamp: string, exists: boolean, outcome: { value: T } | { problem: FileProblem } } | undefined
  let reading: Promise<Outcome<T>> | undefined

  async function stampOf (): Promise<string> {
    try {
      const { mtimeNs, ctimeNs, ino, dev, size } = await stat(path, { bigint: true })
      return [mtimeNs, ctimeNs, ino, dev, size].join(':')
    } catch (error) {
      return error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
    }
  }

  async function look (): Promise<Outcome<T>> {
    const stamp = await stampOf()
    if (known?.stamp === stamp) return { changed: false, exists: known.exists, ...known.outcome }
    let outcome: { value: T } | { problem: FileProblem }
    try {
      outcome = { value: parse(await readBounded(path, limit)) }
    } catch (error) {
      if (!(error instanceof FileProblem)) throw error
      outcome = { problem: error }
    }
    // If a file existed at this path before, the value is a path and not a misplaced secret, so messages may contain
    // it.
    known = { stamp, exists: known?.exists === true || !('problem' in outcome) || outcome.problem.exists, outcome }
    return { changed: true, exists: known.exists, ...outcome }
  }

  // Concurrent calls share one check, so that a change is reported once.
  return async () => {
    if (reading !== undefined) return await reading.then(outcome => ({ ...outcome, changed: false }))
    reading = look()
    try {
      return await reading
    } finally {
      reading = undefined
    }
  }
}
