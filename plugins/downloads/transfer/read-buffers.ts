/** Bytes of the first read of a client, and of the reads of a slow client. */
const firstReadBytes = 32 * 1024
const minReadBytes = 16 * 1024
/** Maximum bytes of a read. */
const maxReadBytes = 1024 * 1024
/** Milliseconds in which a fast client takes the bytes of one read. */
const fastMs = 20

/** Number of buffers that a reader has at most: one that the connection sends, and one with the bytes after it. */
const buffersOfReader = 2

/** Limit of the memory that all readers together use for their buffers. */
export interface ReadBudget {
  /** Takes up to `bytes` bytes, but at least the size of a small read. Returns their number. */
  take: (bytes: number) => number
  give: (bytes: number) => void
}

/** Creates a budget of `maxBytes` bytes. Above it, readers use small buffers. */
export function createReadBudget (maxBytes: number): ReadBudget {
  let used = 0
  return {
    take (bytes) {
      const taken = Math.min(bytes, Math.max(minReadBytes, maxBytes - used))
      used += taken
      return taken
    },
    give (bytes) { used -= bytes }
  }
}

/**
 * Creates the buffers of one reader. The size of a read follows the client: a client that takes its bytes fast gets
 * larger reads, which cost less CPU time, and a slow one smaller reads, because the bytes wait for it in memory.
 *
 * A buffer is used again after `give`. New memory for each read would cost more CPU time than the read: the system must
 * clear it, and the garbage collector must find it.
 */
export function createReadBuffers (budget: ReadBudget) {
  /** Bytes of the last buffers; earlier ones are no longer in use. */
  const taken: number[] = []
  const own = new WeakSet<ArrayBufferLike>()
  let free: Buffer | undefined
  let closed = false
  let size = firstReadBytes
  let last: number | undefined

  function drop (): void {
    // No other code uses the memory of a free buffer.
    if (free?.buffer instanceof ArrayBuffer) free.buffer.transfer(0)
    free = undefined
  }

  function allocate (bytes: number): Buffer {
    drop()
    // The last read of a reader that has ended takes nothing from the budget.
    if (closed) return Buffer.allocUnsafe(minReadBytes)
    if (taken.length === buffersOfReader) budget.give(taken.shift() ?? 0)
    const buffer = Buffer.allocUnsafeSlow(budget.take(bytes))
    taken.push(buffer.length)
    own.add(buffer.buffer)
    return buffer
  }

  return {
    /** Returns a buffer for the next read of at most `length` bytes. */
    take (length: number): Buffer {
      const now = performance.now()
      if (last !== undefined) size = now - last <= fastMs ? size * 2 : size / 2
      last = now
      size = Math.min(maxReadBytes, Math.max(minReadBytes, size))
      const bytes = Math.min(length, size)
      // A much larger buffer is not used again, so that a client that has become slow does not hold its memory.
      const reused = free !== undefined && free.length >= bytes && free.length <= 4 * bytes ? free : undefined
      if (reused !== undefined) free = undefined
      return (reused ?? allocate(bytes)).subarray(0, bytes)
    },

    /** Takes back the buffer of a chunk that is no longer used. */
    give ({ buffer }: Buffer): void {
      if (!own.has(buffer)) return
      // A client that takes two chunks at once leaves two free buffers, of which one is enough.
      drop()
      free = Buffer.from(buffer)
    },

    close (): void {
      closed = true
      drop()
      for (const bytes of taken.splice(0)) budget.give(bytes)
    }
  }
}
