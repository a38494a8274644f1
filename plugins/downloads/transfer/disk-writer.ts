import type { PartialFile } from '../store/partial-files.ts'

export interface DiskWriterOptions {
  partial: Pick<PartialFile, 'handle' | 'grow'>
  /** Returns the number of bytes that are hashed; the memory of later ones is still in use. */
  hashed: () => number
  /** Returns the maximum bytes in memory. */
  maxHeldBytes: () => number
  /** Called when a write to disk has failed. */
  onRefused?: ((error: unknown) => void) | undefined
}

/** A chunk of a file in memory, with its offset. */
interface HeldChunk { at: number, chunk: Buffer }

/** Minimum bytes that a chunk counts, because a small one needs memory for itself, too. */
const minCost = 4096
const costOf = ({ length }: Buffer): number => Math.max(minCost, length)

/**
 * Frees the memory of a chunk that is no longer used. The garbage collector is slow with memory outside its heap, so
 * written chunks of a fast upstream would accumulate. A chunk that shares its memory is not freed.
 */
function freeMemory ({ buffer, byteLength }: Buffer): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}

/** Writes chunks one after another from an offset on. Throws system errors. */
async function writeAll ({ handle }: Pick<PartialFile, 'handle'>, chunks: Buffer[], position: number): Promise<void> {
  for (let [left, at] = [chunks, position]; left.length > 0;) {
    const { bytesWritten } = await handle.writev(left, at)
    at += bytesWritten
    let [first, rest] = [0, bytesWritten]
    for (; rest >= (left[first]?.length ?? Infinity); first++) rest -= left[first]?.length ?? 0
    left = left.slice(first)
    if (left[0] !== undefined) left[0] = left[0].subarray(rest)
  }
}

/**
 * Creates the writer of a file. Chunks that arrive during a write are written together by the next one. They stay in
 * memory until they are on disk, and the last ones longer: readers that are nearly at the end of the arrived bytes then
 * read nothing from disk.
 */
export function createDiskWriter ({ partial, hashed, maxHeldBytes, onRefused }: DiskWriterOptions) {
  const chunks: HeldChunk[] = []
  let held = 0
  let arrived = 0
  let written = 0
  let refused = false
  /** The write in progress; it never rejects. */
  let writing: Promise<void> | undefined

  /** Frees chunks that are hashed and on disk, the oldest first, until no more than `maxBytes` are in memory. */
  function trim (maxBytes: number): void {
    const before = Math.min(written, hashed())
    for (
      let [first] = chunks;
      first !== undefined && held > maxBytes && first.at + first.chunk.length <= before;
      [first] = chunks
    ) {
      chunks.shift()
      held -= costOf(first.chunk)
      freeMemory(first.chunk)
    }
  }

  const mustWrite = (): boolean => !refused && written < arrived

  async function write (): Promise<void> {
    while (mustWrite()) {
      const bytes = arrived - written
      refused = !partial.grow(bytes)
      if (refused) return
      try {
        await writeAll(partial, chunks.filter(({ at }) => at >= written).map(({ chunk }) => chunk), written)
      } catch (error) {
        refused = true
        onRefused?.(error)
        return
      }
      written += bytes
      trim(maxHeldBytes() / 4)
    }
  }

  /** Begins a write, unless one is in progress; returns its end. */
  async function writeArrived (): Promise<void> {
    writing ??= write().finally(() => { writing = undefined })
    await writing
  }

  return {
    /** Number of bytes that were added. */
    get arrived () { return arrived },
    /** Number of bytes on disk. */
    get written () { return written },
    /** Whether the disk accepts no more bytes. Bytes that are not on disk stay in memory. */
    get refused () { return refused },

    /** Adds a chunk. Returns when there is memory for another one. */
    async add (chunk: Buffer): Promise<void> {
      chunks.push({ at: arrived, chunk })
      arrived += chunk.length
      held += costOf(chunk)
      const end = writeArrived()
      if (!refused && held >= maxHeldBytes()) await end
    },

    /** Writes all bytes, and frees their memory. Returns whether they are on disk. */
    async finish (): Promise<boolean> {
      while (mustWrite()) await writeArrived()
      if (!refused) trim(0)
      return !refused
    },

    /** Resolves when no write is in progress. */
    async idle (): Promise<void> { await writing },

    /** Reads bytes from an offset before `arrived`, from memory or from disk. Returns their number. */
    async read (target: Buffer, offset: number): Promise<number> {
      let copied = 0
      for (const { at, chunk } of chunks) {
        const from = offset + copied - at
        if (from < 0 || from >= chunk.length) continue
        copied += chunk.copy(target, copied, from)
        if (copied === target.length) break
      }
      if (copied > 0) return copied
      // Bytes after those on disk are always in memory.
      const length = Math.min(target.length, written - offset)
      return (await partial.handle.read(target, 0, length, offset)).bytesRead
    }
  }
}
