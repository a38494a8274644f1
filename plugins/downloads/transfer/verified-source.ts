import type { Hash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { isRegistryError, registryError, type RegistryError } from '../../../lib/errors.ts'
import { hashFor, usableDigest } from '../store/digest.ts'
import type { FileInfo, OpenedFile, DownloadSource } from './source.ts'

/** Maximum number of resumptions in a row without progress. */
const maxAttempts = 5
/** Bytes that count as progress: one percent of the file, between these limits. */
const minProgressBytes = 64 * 1024
const maxProgressBytes = 1024 * 1024
/** Maximum pause of a `Retry-After` in milliseconds. */
const maxWaitMs = 10_000

export interface VerifiedSourceObserver {
  /** Called with the number of bytes that came from an instance. */
  onBytes?: (instance: string, count: number) => void
  /** Called when a transfer is resumed. */
  onResume?: (instance: string) => void
  /** Called when the bytes of an instance differ from the published content; `details` describes the difference. */
  onDamage?: (instance: string, details: string) => void
}

export interface VerifiedSourceOptions extends VerifiedSourceObserver {
  /** Requested file. The owner may open another file that has replaced it. */
  file: FileInfo
  /** Sources in order: the owner, then other instances with the same digest. */
  sources: readonly DownloadSource[]
  signal: AbortSignal
  /** Returns the pinned digest of a file without a checksum. */
  pinned?: (file: FileInfo) => string | undefined
  /**
   * Called with the digest and the size of the whole file, before the content ends. The content fails with its error.
   */
  settle?: (file: FileInfo, digest: string, size: number) => Promise<void>
  /** Waits for `milliseconds`, or until `signal` is aborted. */
  wait?: (milliseconds: number, signal: AbortSignal) => Promise<void>
  /** Returns numbers in [0, 1). */
  random?: () => number
}

/** Verified content of a file, from any of its sources. */
export interface VerifiedSource {
  readonly file: FileInfo
  /** Size of the whole file in bytes, when known. */
  readonly size: number | undefined
  /** Digest that the content must have; undefined when it is unknown. */
  readonly expected: string | undefined
  /** Number of bytes that the consumer has taken. */
  readonly at: number
  /** Digest of the whole file, once all bytes are taken. */
  readonly digest: string
  /**
   * Yields the content from `at` on. It ends only after the whole content is verified; otherwise it throws, possibly
   * only after the last chunk. A consumer that passes bytes on must therefore hold back the last chunk. A chunk counts
   * as taken when the next one is requested.
   */
  chunks: () => AsyncGenerator<Buffer, void>
  /** Returns the same content from `at` on, read again from the sources. */
  fork: (signal: AbortSignal) => VerifiedSource
  /** Closes an opened response that will not be read. */
  discard: () => void
}

/** Returns whether another source or attempt may succeed. */
const isRetryable = (error: unknown): error is RegistryError =>
  isRegistryError(error) && error.code !== 'internal_error' && error.code !== 'conflict'

/**
 * Opens a file from its owner or, if that fails, from another source. Returns undefined when the owner no longer has
 * it.
 */
export async function openVerifiedSource (options: VerifiedSourceOptions): Promise<VerifiedSource | undefined> {
  const { sources, signal } = options
  let failure: unknown
  for (const [index, downloadSource] of sources.entries()) {
    try {
      const opened = await downloadSource.open({ offset: 0, signal })
      if (opened === undefined && index > 0) continue
      return opened === undefined ? undefined : createVerifiedSource(options, opened, index)
    } catch (error) {
      failure ??= error
      if (signal.aborted || !isRetryable(error)) throw error
    }
  }
  throw failure
}

/** Prevents an unhandled error of a stream that is not read yet; its reader still receives the error. */
const ignoreEarlyError = ({ stream }: OpenedFile): void => { stream.on('error', () => {}) }

function createVerifiedSource (options: VerifiedSourceOptions, first: OpenedFile, index: number): VerifiedSource {
  // Another instance may have the same content under another name.
  const file = index === 0 ? first.file : options.file
  const expected = usableDigest(file.checksum) ?? options.pinned?.(file)
  const { algorithm, hash } = hashFor(expected)
  const size = file.size ?? first.length
  ignoreEarlyError(first)
  return continueVerifiedSource(options, { file, size, expected, algorithm }, {
    hash,
    at: 0,
    index,
    opened: first,
    etag: first.etag
  })
}

/** Properties of a file that stay the same while it is read. */
interface Content { file: FileInfo, size: number | undefined, expected: string | undefined, algorithm: string }

/** Progress of a read: the hash of the bytes so far, and the current source. */
interface Position {
  readonly hash: Hash
  at: number
  /** Index of the source. */
  index: number
  opened: OpenedFile | undefined
  /** Validator of the source. */
  etag: string | undefined
}

/** Returns the current source. */
function sourceAt ({ sources }: VerifiedSourceOptions, { index }: Position): DownloadSource {
  const found = sources[index]
  if (found === undefined) throw new TypeError('A file needs an origin')
  return found
}

/** Creates the errors of the current source. */
function createFailures (options: VerifiedSourceOptions, position: Position) {
  /** Errors that another attempt cannot avoid. */
  const final = new WeakSet<object>()
  const incomplete = (details: string): RegistryError => {
    const { instance } = sourceAt(options, position)
    return registryError('service_unavailable', `Instance ${instance} is unavailable`, {
      instance,
      details,
      proxyError: 'http_response_incomplete'
    })
  }
  function damaged (details: string): RegistryError {
    options.onDamage?.(sourceAt(options, position).instance, details)
    return incomplete(details)
  }
  return {
    /** Returns the error of a response that ended too early. */
    unfinished: (): RegistryError => incomplete('Response is incomplete'),
    /** Reports content that differs from the published content, and returns the error. */
    damaged,
    /** Does the same for an error after which no other attempt is made. */
    wrong (details: string): RegistryError {
      const error = damaged(details)
      final.add(error)
      return error
    },
    isFinal: (error: unknown): boolean => typeof error === 'object' && error !== null && final.has(error)
  }
}
type Failures = ReturnType<typeof createFailures>

/** Yields the new bytes of an upstream's stream. Bytes that were already taken must not have changed. */
async function * takeNew (
  { stream, offset = 0 }: OpenedFile,
  position: Position,
  { expected, size }: Content,
  { wrong }: Failures,
  onBytes: (count: number) => void
): AsyncGenerator<Buffer, void> {
  const { hash } = position
  const repeatedBytes = position.at - offset
  const repeatedHash = repeatedBytes > 0 && offset === 0 ? hashFor(expected).hash : undefined
  let skip = repeatedBytes
  for await (const piece of stream) {
    let chunk = piece as Buffer
    onBytes(chunk.length)
    if (skip > 0) {
      repeatedHash?.update(chunk.subarray(0, skip))
      const rest = chunk.subarray(skip)
      skip -= chunk.length - rest.length
      if (skip > 0) continue
      if (repeatedHash !== undefined && !repeatedHash.digest().equals(hash.copy().digest())) {
        throw wrong('File changed while it was read')
      }
      chunk = rest
    }
    if (chunk.length === 0) continue
    if (size !== undefined && position.at + chunk.length > size) throw wrong('File is longer than the published file')
    yield chunk
    hash.update(chunk)
    position.at += chunk.length
  }
}

/** Opens the current source again at the point of interruption. */
async function reopen (
  options: VerifiedSourceOptions,
  position: Position,
  { size }: Content,
  { unfinished, wrong }: Failures
): Promise<OpenedFile> {
  const { at: offset, etag } = position
  const found = await sourceAt(options, position).open({
    offset,
    signal: options.signal,
    ...(etag !== undefined && { etag })
  })
  if (found === undefined) throw unfinished()
  if (found.file.size !== undefined && size !== undefined && found.file.size !== size) {
    found.stream.destroy()
    throw wrong('File changed while it was read')
  }
  position.etag = found.etag ?? etag
  ignoreEarlyError(found)
  return found
}

const waitFor = async (milliseconds: number, signal: AbortSignal): Promise<void> => {
  await sleep(milliseconds, undefined, { signal })
}

/** Reads the content of a file from a position, which it updates. */
function continueVerifiedSource (
  options: VerifiedSourceOptions,
  content: Content,
  position: Position
): VerifiedSource {
  const { sources, signal, onBytes, onResume, random = Math.random, wait = waitFor } = options
  const { file, size, expected, algorithm } = content
  const { hash } = position
  const failures = createFailures(options, position)
  let digest: string | undefined

  /** Yields the remaining content of the current source. Throws when it ends too early. */
  async function * takeRest (): AsyncGenerator<Buffer, void> {
    const opened = position.opened ?? await reopen(options, position, content, failures)
    position.opened = undefined
    const { instance } = sourceAt(options, position)
    yield * takeNew(opened, position, content, failures, count => onBytes?.(instance, count))
    if (size !== undefined && position.at !== size) throw failures.unfinished()
  }

  /** Waits before a resumption; the pause grows with each failure. */
  async function pauseAfter (failed: number, { retryAfter = 0 }: RegistryError): Promise<void> {
    const pauseMs = Math.max(100 * 2 ** failed * (0.5 + random() / 2), Math.min(maxWaitMs, retryAfter * 1000))
    await wait(pauseMs, signal)
  }

  async function * chunks (): AsyncGenerator<Buffer, void> {
    const minBytes = Math.max(minProgressBytes, Math.min(maxProgressBytes, (size ?? Infinity) / 100))
    let failed = 0
    let mark = position.at
    for (;;) {
      try {
        yield * takeRest()
        break
      } catch (error) {
        // The content is complete, so an error at the end of the connection is ignored.
        if (size !== undefined && position.at === size && !signal.aborted && !failures.isFinal(error)) break
        if (signal.aborted || !isRetryable(error) || failures.isFinal(error)) throw error
        if (position.at - mark >= minBytes) failed = 0
        mark = position.at
        if (failed === maxAttempts) throw error
        // The first attempt uses the same source, and each further one the next source.
        if (failed > 0 && sources.length > 1) {
          position.index = (position.index + 1) % sources.length
          position.etag = undefined
        }
        await pauseAfter(failed, error)
        failed++
        onResume?.(sourceAt(options, position).instance)
      }
    }
    digest = `${algorithm}:${hash.copy().digest('hex')}`
    if (size !== undefined && position.at !== size) throw failures.damaged('File is shorter than the published file')
    if (expected !== undefined && digest !== expected) throw failures.damaged('File is damaged')
    await options.settle?.(file, digest, position.at)
  }

  return {
    file,
    size,
    expected,
    get at () { return position.at },
    get digest () { return digest ?? `${algorithm}:${hash.copy().digest('hex')}` },
    chunks,
    fork: signal =>
      continueVerifiedSource({ ...options, signal }, content, { ...position, hash: hash.copy(), opened: undefined }),
    discard () {
      position.opened?.stream.destroy()
    }
  }
}
