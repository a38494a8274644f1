import type { FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'
import type { VerifiedSource } from './verified-source.ts'

/** Bytes at the end of a span that are held back until the whole file is verified. */
export const heldBytes = 32 * 1024

/** Part of a file from the byte `start` to before the byte `end`; `end` is absent for a file of unknown size. */
export interface Span { start: number, end?: number }

/** A file on disk that may still grow. */
export interface GrowingFile {
  readonly handle: FileHandle
  /** Number of bytes on disk. */
  readonly written: number
  /** Whether the file is complete and verified. */
  readonly verified: boolean
  /** Reason why the file cannot be completed. */
  readonly error: Error | undefined
  /** Source of the remaining bytes, when the disk accepts no more. */
  readonly rest: VerifiedSource | undefined
  /** Calls `listener` once, at the next change. Returns a function that removes it. */
  changed: (listener: () => void) => () => void
}

export interface ReaderOptions extends Span {
  /** Maximum bytes of one read. */
  maxBytes: () => number
  onBytes?: (count: number) => void
}

/**
 * Yields the bytes of a span: first `before`, then those of a source that begins inside or before the span. The last
 * bytes are held back until the whole file is verified.
 */
async function * holdBack (
  source: VerifiedSource,
  { start, end = Infinity }: Span,
  before: Buffer = Buffer.alloc(0)
): AsyncGenerator<Buffer, void> {
  const held: Buffer[] = []
  let bytes = 0
  function * hold (chunk: Buffer): Generator<Buffer, void> {
    if (chunk.length === 0) return
    held.push(chunk)
    bytes += chunk.length
    for (let [first] = held; first !== undefined && bytes - first.length >= heldBytes; [first] = held) {
      held.shift()
      bytes -= first.length
      yield first
    }
  }
  yield * hold(before)
  for await (const chunk of source.chunks()) {
    const from = Math.max(0, start - source.at)
    yield * hold(chunk.subarray(from, Math.max(from, end - source.at)))
  }
  yield * held
}

/** Reads a span of a file that may still grow, at the speed of its client. */
export function createGrowingReader (growing: GrowingFile, { start, end, maxBytes, onBytes }: ReaderOptions): Readable {
  const { handle } = growing
  const stop = new AbortController()
  let at = start
  let rest: AsyncGenerator<Buffer, void> | undefined
  let removeListener: (() => void) | undefined

  /** Returns the offset before which the file can be read now. */
  function limit (): number {
    if (growing.verified) return Math.min(growing.written, end ?? Infinity)
    return Math.min(growing.written, (end ?? growing.written) - heldBytes)
  }

  async function readAt (length: number): Promise<Buffer> {
    const chunk = Buffer.allocUnsafeSlow(length)
    const { bytesRead } = await handle.read(chunk, 0, length, at)
    if (bytesRead === 0) throw new Error('A file is shorter than it was')
    at += bytesRead
    return chunk.subarray(0, bytesRead)
  }

  /** Returns the next bytes; null at the end, undefined when more bytes must arrive first. */
  async function next (): Promise<Buffer | null | undefined> {
    if (rest !== undefined) return (await rest.next()).value ?? null
    const left = limit() - at
    if (left > 0) return await readAt(Math.min(left, maxBytes()))
    if (growing.error !== undefined) throw growing.error
    if (growing.verified) return null
    if (growing.rest === undefined) return undefined
    const before: Buffer[] = []
    const writtenEnd = Math.min(growing.written, end ?? Infinity)
    while (at < writtenEnd) before.push(await readAt(writtenEnd - at))
    const source = growing.rest.fork(stop.signal)
    rest = holdBack(
      source,
      { start: Math.max(at, source.at), ...(end !== undefined && { end }) },
      Buffer.concat(before)
    )
    return await next()
  }

  function pull (): void {
    next().then(chunk => {
      if (stream.destroyed) return
      if (chunk === undefined) {
        removeListener = growing.changed(pull)
        return
      }
      if (chunk !== null) onBytes?.(chunk.length)
      stream.push(chunk)
    }).catch((error: unknown) => { stream.destroy(error instanceof Error ? error : new Error(String(error))) })
  }

  const stream: Readable = new Readable({
    // Only one chunk of any size is read ahead, so that the rest stays on disk until the client takes it.
    highWaterMark: 1,
    read: pull,
    destroy (error, done) {
      removeListener?.()
      stop.abort()
      done(error)
    }
  })
  return stream
}

/** Reads a span of a file directly from its source, without the store. The whole file is verified nevertheless. */
export function createDirectReader (
  source: VerifiedSource,
  { onBytes, ...span }: Omit<ReaderOptions, 'maxBytes'>
): Readable {
  const chunks = holdBack(source, span)
  const stream: Readable = new Readable({
    highWaterMark: heldBytes,
    read () {
      chunks.next().then(({ value }) => {
        if (stream.destroyed) return
        if (value !== undefined) onBytes?.(value.length)
        stream.push(value ?? null)
      }).catch((error: unknown) => { stream.destroy(error instanceof Error ? error : new Error(String(error))) })
    },
    destroy (error, done) {
      chunks.return().catch(() => {})
      source.discard()
      done(error)
    }
  })
  return stream
}
