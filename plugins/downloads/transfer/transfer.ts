import type { FileHandle } from 'node:fs/promises'
import type { PartialFile } from '../store/blobs.ts'
import type { GrowingFile } from './reader.ts'
import type { VerifiedSource } from './verified-source.ts'

export interface TransferOptions {
  source: VerifiedSource
  partial: PartialFile
  /** Aborts the request to the upstream. */
  abort: () => void
  /** Called when a write to disk has failed. */
  onRefused?: (error: unknown) => void
  /** Called when the transfer has ended, with or without success. */
  onEnd?: () => void
}

/**
 * Frees the memory of a chunk that is no longer used. The garbage collector is slow with memory outside its heap, so
 * written chunks of a fast upstream would accumulate. A chunk that shares its memory is not freed.
 */
function freeMemory ({ buffer, byteLength }: Buffer): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}

async function writeAll (handle: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let at = 0; at < chunk.length;) {
    at += (await handle.write(chunk, at, chunk.length - at, position + at)).bytesWritten
  }
}

/**
 * Creates the transfer of one file from an upstream to the disk, for all its readers and independent of each of them.
 * When the disk accepts no more bytes, each reader continues from the source. The file is closed when the transfer has
 * ended and no reader uses it.
 */
export function createTransfer ({ source, partial, abort, onRefused, onEnd }: TransferOptions) {
  const listeners = new Set<() => void>()
  const settled = Promise.withResolvers<void>()
  settled.promise.catch(() => {})
  let written = 0
  let verified = false
  let error: Error | undefined
  let rest: VerifiedSource | undefined
  let over = false
  let holders = 0

  function notify (): void {
    const waiting = [...listeners]
    listeners.clear()
    for (const listener of waiting) listener()
  }

  function fail (cause: unknown): void {
    error = cause instanceof Error ? cause : new Error(String(cause))
    settled.reject(error)
    notify()
  }

  /** Writes a chunk to disk. Returns false when the store is full or the write fails. */
  async function write (chunk: Buffer): Promise<boolean> {
    if (!partial.grow(chunk.length)) return false
    try {
      await writeAll(partial.handle, chunk, written)
    } catch (error) {
      onRefused?.(error)
      return false
    }
    written += chunk.length
    notify()
    return true
  }

  async function run (): Promise<void> {
    let before: Buffer | undefined
    for await (const chunk of source.chunks()) {
      // By now the source has hashed the previous chunk, so its memory can be freed.
      if (before !== undefined) freeMemory(before)
      before = chunk
      if (await write(chunk)) continue
      rest = source
      break
    }
    verified = rest === undefined
    if (!verified) abort()
    settled.resolve()
    notify()
    if (verified) await partial.commit(source.digest)
  }

  async function close (): Promise<void> {
    if (over && holders === 0) await partial.close()
  }

  const done = run().catch(fail).then(async () => {
    over = true
    onEnd?.()
    await close()
  })

  const growing: GrowingFile = {
    handle: partial.handle,
    get written () { return written },
    get verified () { return verified },
    get error () { return error },
    get rest () { return rest },
    changed (listener) {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    }
  }

  return {
    growing,
    file: source.file,
    size: source.size,
    expected: source.expected,
    /** Resolves when the file may be served; rejects when it may not. */
    settled: settled.promise,
    /** Resolves when the transfer has ended. */
    done,
    get over () { return over },
    get verified () { return verified },
    /** Keeps the file open until the returned function is called. */
    hold (): () => void {
      holders++
      return () => {
        holders--
        void close()
      }
    }
  }
}
export type Transfer = ReturnType<typeof createTransfer>
