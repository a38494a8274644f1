import type { FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'
import type { VerifiedSource } from './verified-source.ts'

/** Bytes at the end of what is read that are held back until the whole file is verified. */
export const heldBytes = 32 * 1024

/**
 * Part of a file: from its byte `start` to before its byte `end`, which is unset for the end of a file of unknown size.
 */
export interface Span { start: number, end?: number }

/** A file on disk that may still grow, as those see it who read it. */
export interface GrowingFile {
  readonly handle: FileHandle
  /** Bytes that are there. */
  readonly written: number
  /** Whether it is whole and what was published. */
  readonly verified: boolean
  /** Why it will not be whole. */
  readonly error: Error | undefined
  /** Where the rest comes from, when it is not written any more. */
  readonly rest: VerifiedSource | undefined
  /** Calls back once, at the next change. */
  changed: (listener: () => void) => () => void
}

export interface ReaderOptions extends Span {
  /** Bytes to read at once. */
  piece: () => number
  onBytes?: (count: number) => void
}

/**
 * What is left of a flow that begins inside or before a span; its last bytes come when all of it was verified. `before`
 * are those in front of it.
 */
export async function * passOn (
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

/** Reads a span of a file that may still grow, at the reader's own pace. */
export function createGrowingReader (growing: GrowingFile, { start, end, piece, onBytes }: ReaderOptions): Readable {
  const { handle } = growing
  const gone = new AbortController()
  let at = start
  let rest: AsyncGenerator<Buffer, void> | undefined
  let forget: (() => void) | undefined

  /** Up to where it may be read now. */
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

  /** The next bytes; null at the end, undefined when there are none yet. */
  async function next (): Promise<Buffer | null | undefined> {
    if (rest !== undefined) return (await rest.next()).value ?? null
    const left = limit() - at
    if (left > 0) return await readAt(Math.min(left, piece()))
    if (growing.error !== undefined) throw growing.error
    if (growing.verified) return null
    if (growing.rest === undefined) return undefined
    const before: Buffer[] = []
    const there = Math.min(growing.written, end ?? Infinity)
    while (at < there) before.push(await readAt(there - at))
    const source = growing.rest.fork(gone.signal)
    rest = passOn(source, { start: Math.max(at, source.at), ...(end !== undefined && { end }) }, Buffer.concat(before))
    return await next()
  }

  function pull (stream: Readable): void {
    next().then(chunk => {
      if (stream.destroyed) return
      if (chunk === undefined) {
        forget = growing.changed(() => { pull(stream) })
        return
      }
      if (chunk !== null) onBytes?.(chunk.length)
      stream.push(chunk)
    }).catch((error: unknown) => { stream.destroy(error instanceof Error ? error : new Error(String(error))) })
  }

  return new Readable({
    // One piece ahead, whatever its size: what a slow reader does not take stays on disk.
    highWaterMark: 1,
    read () { pull(this) },
    destroy (error, done) {
      forget?.()
      gone.abort()
      done(error)
    }
  })
}

/** Reads a span of a file that nobody keeps: straight from where it comes, the whole of which is verified. */
export function createPassingReader (
  source: VerifiedSource,
  { onBytes, ...span }: Omit<ReaderOptions, 'piece'>
): Readable {
  const chunks = passOn(source, span)
  return new Readable({
    highWaterMark: heldBytes,
    read () {
      chunks.next().then(({ value }) => {
        if (this.destroyed) return
        if (value !== undefined) onBytes?.(value.length)
        this.push(value ?? null)
      }).catch((error: unknown) => { this.destroy(error instanceof Error ? error : new Error(String(error))) })
    },
    destroy (error, done) {
      chunks.return().catch(() => {})
      source.discard()
      done(error)
    }
  })
}
