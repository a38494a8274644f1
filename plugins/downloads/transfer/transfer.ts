import type { Blobs } from '../store/blobs.ts'
import type { PartialFile } from '../store/partial-files.ts'
import { createDiskWriter } from './disk-writer.ts'
import type { GrowingFile } from './reader.ts'
import { openVerifiedSource, type VerifiedSource, type VerifiedSourceOptions } from './verified-source.ts'

export interface TransferOptions {
  source: VerifiedSource
  partial: PartialFile
  /** Returns the maximum bytes of the file in memory. */
  maxHeldBytes: () => number
  /** Aborts the request to the upstream. */
  abort: () => void
  /** Called when a write to disk has failed. */
  onRefused?: (error: unknown) => void
  /** Called when the transfer has ended, with or without success. */
  onEnd?: () => void
}

/**
 * Creates the transfer of one file from an upstream to the disk, for all its readers and independent of each of them.
 * When the disk accepts no more bytes, each reader continues from the source. The file is closed when the transfer has
 * ended and no reader uses it.
 */
export function createTransfer ({ source, partial, maxHeldBytes, abort, onRefused, onEnd }: TransferOptions) {
  const listeners = new Set<() => void>()
  const settled = Promise.withResolvers<void>()
  settled.promise.catch(() => {})
  // The source hashes a chunk after the next one is requested.
  const writer = createDiskWriter({ partial, hashed: () => source.at, maxHeldBytes, onRefused })
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

  async function run (): Promise<void> {
    for await (const chunk of source.chunks()) {
      const added = writer.add(chunk)
      notify()
      await added
      // The last bytes have room in memory.
      if (!writer.refused || (source.size ?? Infinity) - writer.written <= maxHeldBytes()) continue
      rest = source
      break
    }
    verified = rest === undefined
    if (!verified) abort()
    settled.resolve()
    notify()
    if (verified && await writer.finish()) await partial.commit(source.digest)
  }

  async function close (): Promise<void> {
    if (over && holders === 0) await partial.close()
  }

  const done = run().catch(fail).then(async () => {
    await writer.idle()
    over = true
    onEnd?.()
    await close()
  })

  const growing: GrowingFile = {
    get arrived () { return writer.arrived },
    get verified () { return verified },
    get error () { return error },
    get rest () { return rest },
    read: writer.read,
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

type SourceOptions = Omit<VerifiedSourceOptions, 'signal'>

export interface PoolOptions {
  blobs: Blobs
  /** Maximum size in bytes of a file whose transfer continues without a reader. */
  finishBytes: number
  onRefused: (error: unknown) => void
}

/**
 * A transfer, or 'direct' when its file cannot be stored and each request must read it without the store. Undefined
 * when the file is absent.
 */
type Opening = Promise<Transfer | 'direct' | undefined>

/** A transfer that is starting or in progress, and the number of its shares. */
interface Shared {
  opening: Opening
  transfer?: Transfer
  shares: number
  /** Size in bytes, when known. */
  size: number | undefined
  /** Whether the transfer continues without a share at any size. */
  finish: boolean
  stop: AbortController
}

/** A share in a transfer, valid until `leave` is called. */
export interface Share { opening: Opening, first: boolean, leave: () => void }

/** Bytes that are not on disk yet, or only for a short time: maximum of all transfers, and of each. */
const maxHeldOfAll = 16 * 1024 * 1024
const maxHeldOfTransfer = 512 * 1024
const minHeldOfTransfer = 64 * 1024

/** Maximum number of transfers without a share. */
const maxAbandoned = 8

/** Waits until a transfer has ended. Its readers report its failure. */
async function waitForEnd (opening: Opening): Promise<void> {
  try {
    const transfer = await opening
    if (transfer !== 'direct') await transfer?.done
  } catch {}
}

/**
 * Opens a source, and starts its transfer to the store. `onEnd` is called when the transfer has ended or is not
 * possible.
 */
async function startTransfer (
  { blobs, onRefused }: PoolOptions,
  sourceOptions: SourceOptions,
  shared: Shared,
  { maxHeldBytes, onEnd }: Pick<TransferOptions, 'maxHeldBytes'> & { onEnd: () => void }
): Opening {
  const { stop } = shared
  let partial
  let source
  try {
    partial = await blobs.create(sourceOptions.file.size)
    if (partial === undefined) {
      onEnd()
      return 'direct'
    }
    stop.signal.throwIfAborted()
    source = await openVerifiedSource({ ...sourceOptions, signal: stop.signal })
    // Stored files are evicted only after the upstream has opened the new file.
    if (source !== undefined && partial.reserve(source.size ?? 0)) {
      shared.size = source.size
      const abort = () => { stop.abort() }
      shared.transfer = createTransfer({ source, partial, maxHeldBytes, abort, onRefused, onEnd })
      return shared.transfer
    }
  } catch (error) {
    onEnd()
    await partial?.close()
    throw error
  }
  onEnd()
  stop.abort()
  source?.discard()
  await partial.close()
  return source === undefined ? undefined : 'direct'
}

/** Creates the pool of transfers in progress, with one transfer per key at a time. */
export function createPool (options: PoolOptions) {
  const { finishBytes } = options
  const transfers = new Map<string, Shared>()
  /** All transfers that have not ended, including those that requests can no longer join. */
  const running = new Set<Promise<void>>()

  const maxHeldBytes = (): number =>
    Math.min(maxHeldOfTransfer, Math.max(minHeldOfTransfer, maxHeldOfAll / running.size))

  function forget (key: string, shared: Shared): void {
    if (transfers.get(key) === shared) transfers.delete(key)
  }

  function start (key: string, sourceOptions: SourceOptions): Shared {
    const shared: Shared = {
      opening: Promise.resolve(undefined),
      shares: 0,
      size: sourceOptions.file.size,
      finish: false,
      stop: new AbortController()
    }
    transfers.set(key, shared)
    const onEnd = () => { forget(key, shared) }
    shared.opening = startTransfer(options, sourceOptions, shared, { maxHeldBytes, onEnd })
    const end = waitForEnd(shared.opening).finally(() => { running.delete(end) })
    running.add(end)
    return shared
  }

  /** Returns whether a transfer without a share continues. */
  function continuesAlone ({ transfer, finish, size }: Shared): boolean {
    const abandoned = [...transfers.values()].filter(({ shares }) => shares === 0).length
    // Before the first byte a transfer is stopped, because no data is lost. The next request then does not wait for an
    // upstream that may hang.
    return transfer !== undefined && (finish || (size ?? Infinity) <= finishBytes) && abandoned <= maxAbandoned
  }

  function leave (key: string, shared: Shared): void {
    shared.shares--
    if (shared.shares > 0 || shared.transfer?.over === true || shared.transfer?.verified === true) return
    if (continuesAlone(shared)) return
    forget(key, shared)
    shared.stop.abort()
  }

  return {
    /** Returns the number of transfers in progress. */
    active: (): number => transfers.size,

    /**
     * Takes a share in the transfer of a key, which is started if necessary. With `finish` the transfer continues to
     * its end at any size after all shares are left.
     */
    join (key: string, sourceOptions: SourceOptions, { finish = false } = {}): Share {
      const inProgress = transfers.get(key)
      const shared = inProgress ?? start(key, sourceOptions)
      shared.shares++
      shared.finish ||= finish
      let left = false
      return {
        opening: shared.opening,
        first: inProgress === undefined,
        leave () {
          if (!left) leave(key, shared)
          left = true
        }
      }
    },

    has: (key: string): boolean => transfers.has(key),

    /** Stops all transfers, and waits until they have ended. */
    async close (): Promise<void> {
      for (const { stop } of transfers.values()) stop.abort()
      await Promise.all(running)
    }
  }
}
export type Pool = ReturnType<typeof createPool>
