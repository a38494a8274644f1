import { Readable } from 'node:stream'
import { createReadBuffers, type ReadBudget } from './read-buffers.ts'
import type { VerifiedSource } from './verified-source.ts'
import { reportWritten } from './written-buffers.ts'

/** Bytes at the end of a span that are held back until the whole file is verified. */
export const heldBytes = 32 * 1024

/** Part of a file from the byte `start` to before the byte `end`; `end` is absent for a file of unknown size. */
export interface Span { start: number, end?: number }

/** A file on disk that may still grow. */
export interface GrowingFile {
  /** Number of bytes that can be read. */
  readonly arrived: number
  /** Whether the file is complete and verified. */
  readonly verified: boolean
  /** Reason why the file cannot be completed. */
  readonly error: Error | undefined
  /** Source of the remaining bytes, when the disk accepts no more. */
  readonly rest: VerifiedSource | undefined
  /** Reads bytes from an offset before `arrived`. Returns their number; 0 if the file is shorter than it was. */
  read: (target: Buffer, offset: number) => Promise<number>
  /** Calls `listener` once, at the next change. Returns a function that removes it. */
  changed: (listener: () => void) => () => void
}

export interface ReaderOptions extends Span {
  /** Limit of the memory of all readers. */
  budget: ReadBudget
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
export function createGrowingReader (growing: GrowingFile, { start, end, budget, onBytes }: ReaderOptions): Readable {
  const buffers = createReadBuffers(budget)
  const stop = new AbortController()
  let at = start
  let rest: AsyncGenerator<Buffer, void> | undefined
  let removeListener: (() => void) | undefined

  /** Returns the offset before which the file can be read now. */
  function limit (): number {
    if (growing.verified) return Math.min(growing.arrived, end ?? Infinity)
    return Math.min(growing.arrived, (end ?? growing.arrived) - heldBytes)
  }

  /** Returns between one and `length` bytes. */
  async function take (length: number): Promise<Buffer> {
    const chunk = buffers.take(length)
    const count = await growing.read(chunk, at)
    if (count === 0) throw new Error('A file is shorter than it was')
    at += count
    return chunk.subarray(0, count)
  }

  /** Returns the bytes that have arrived, before the remaining ones come from the source. */
  async function takeArrived (): Promise<Buffer> {
    const until = Math.min(growing.arrived, end ?? Infinity)
    const chunks: Buffer[] = []
    while (at < until) chunks.push(await take(until - at))
    return Buffer.concat(chunks)
  }

  /** Returns the next bytes; null at the end. Waits until more bytes have arrived. */
  async function next (): Promise<Buffer | null> {
    while (rest === undefined) {
      const left = limit() - at
      if (left > 0) return await take(left)
      if (growing.error !== undefined) throw growing.error
      if (growing.verified) return null
      if (growing.rest === undefined) {
        await new Promise<void>(resolve => { removeListener = growing.changed(resolve) })
        continue
      }
      const before = await takeArrived()
      const source = growing.rest.fork(stop.signal)
      rest = holdBack(source, { start: Math.max(at, source.at), ...(end !== undefined && { end }) }, before)
    }
    return (await rest.next()).value ?? null
  }

  const stream: Readable = new Readable({
    // Only one chunk of any size is read ahead, so that the rest stays on disk until the client takes it.
    highWaterMark: 1,
    read () {
      next().then(chunk => {
        if (stream.destroyed) return
        if (chunk !== null) onBytes?.(chunk.length)
        stream.push(chunk)
      }).catch((error: unknown) => { stream.destroy(error instanceof Error ? error : new Error(String(error))) })
    },
    destroy (error, done) {
      removeListener?.()
      stop.abort()
      buffers.close()
      done(error)
    }
  })
  reportWritten(stream, buffers.give)
  return stream
}

/** Reads a span of a file directly from its source, without the store. The whole file is verified nevertheless. */
export function createDirectReader (
  source: VerifiedSource,
  { onBytes, ...span }: Omit<ReaderOptions, 'budget'>
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
