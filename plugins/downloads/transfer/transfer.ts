import type { PartialFile } from '../store/blobs.ts'
import type { VerifiedSource } from './verified-source.ts'
import type { GrowingFile } from './reader.ts'

export interface TransferOptions {
  source: VerifiedSource
  partial: PartialFile
  /** Stops the upstream. */
  abort: () => void
  /** The disk refused bytes. */
  onRefused?: (error: unknown) => void
  /** It is over: what was written is in its place, or will not be. */
  onEnd?: () => void
}

/**
 * Frees the memory of a chunk that nobody reads any more. The garbage collector does not hurry for what lies outside of
 * its heap: a fast upstream would fill memory with what was written long ago. What shares its memory with others is
 * left alone.
 */
function giveBack ({ buffer, byteLength }: Buffer): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}

/**
 * One file on its way from an upstream to the disk, for all who want it meanwhile. It belongs to none of them. When the
 * disk takes no more, those who read it go on by themselves. The file is closed when it is over and nobody holds it.
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

  function change (): void {
    const waiting = [...listeners]
    listeners.clear()
    for (const listener of waiting) listener()
  }

  function fail (cause: unknown): void {
    error = cause instanceof Error ? cause : new Error(String(cause))
    settled.reject(error)
    change()
  }

  async function write (chunk: Buffer): Promise<boolean> {
    if (!partial.grow(chunk.length)) return false
    try {
      for (let at = 0; at < chunk.length;) {
        at += (await partial.handle.write(chunk, at, chunk.length - at, written + at)).bytesWritten
      }
    } catch (error) {
      onRefused?.(error)
      return false
    }
    written += chunk.length
    change()
    return true
  }

  async function run (): Promise<void> {
    let before: Buffer | undefined
    for await (const chunk of source.chunks()) {
      // By now it is hashed, too.
      if (before !== undefined) giveBack(before)
      before = chunk
      if (await write(chunk)) continue
      rest = source
      break
    }
    if (rest !== undefined) {
      abort()
      settled.resolve()
      change()
      return
    }
    verified = true
    settled.resolve()
    change()
    await partial.commit(source.digest)
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
    /** Settles when it is known whether the file may be served; rejects when not. */
    settled: settled.promise,
    /** Settles when it is over. */
    done,
    get over () { return over },
    get verified () { return verified },
    /** Keeps the file open until it is let go. */
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
