import type { Hash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { isRegistryError, registryError, type RegistryError } from '../../../lib/errors.ts'
import { hashFor, usableDigest } from '../store/digest.ts'
import type { FileInfo, OpenedFile, DownloadSource } from './source.ts'

/** Times that a file that breaks off is asked for again without getting on. */
const attempts = 5
/** Bytes that count as getting on: a hundredth of the file, between these. */
const minProgressBytes = 64 * 1024
const maxProgressBytes = 1024 * 1024
/** Longest that is waited for an upstream that names a time (milliseconds). */
const maxWaitMs = 10_000

export interface VerifiedSourceObserver {
  /** Bytes came from an instance. */
  onBytes?: (instance: string, count: number) => void
  /** A file that broke off is asked for again. */
  onResume?: (instance: string) => void
  /** What an instance gave is not what was published; `details` say what is wrong with it. */
  onDamage?: (instance: string, details: string) => void
}

export interface VerifiedSourceOptions extends VerifiedSourceObserver {
  /** What is asked for; what the owner gives may be another file by now. */
  file: FileInfo
  /** Where the file is: the owner first; others only where they have the same digest. */
  sources: readonly DownloadSource[]
  signal: AbortSignal
  /** The digest that a file without a checksum had before. */
  pinned?: (file: FileInfo) => string | undefined
  /** Told what all of it was found to be, before its end is; what it throws is the end instead. */
  settle?: (file: FileInfo, digest: string, size: number) => Promise<void>
  /** Waits so many milliseconds, or until `signal` is aborted. */
  wait?: (milliseconds: number, signal: AbortSignal) => Promise<void>
  /** Numbers in [0, 1). */
  random?: () => number
}

/** The content of a file, from wherever it can be had, verified. */
export interface VerifiedSource {
  readonly file: FileInfo
  /** Bytes of the whole file, when known. */
  readonly size: number | undefined
  /** The digest that it must have; undefined when nobody says. */
  readonly expected: string | undefined
  /** Bytes that were taken. */
  readonly at: number
  /** The digest of everything, once all was taken. */
  readonly digest: string
  /**
   * The content from `at` on. It ends only when all of it is what was published; else it throws, at the latest after
   * its last chunk: whoever passes it on holds that back. A chunk counts as taken when the next one is asked for.
   */
  chunks: () => AsyncGenerator<Buffer, void>
  /** The same content from `at` on, from upstreams of its own. */
  fork: (signal: AbortSignal) => VerifiedSource
  /** Lets an upstream go that was opened and will not be read. */
  discard: () => void
}

/** Whether another place, or another try, may give what this one did not. */
const mayHelp = (error: unknown): error is RegistryError =>
  isRegistryError(error) && error.code !== 'internal_error' && error.code !== 'conflict'

/** Opens a file: at its owner, or where that fails elsewhere. Undefined when the owner says that it is gone. */
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
      if (signal.aborted || !mayHelp(error)) throw error
    }
  }
  throw failure
}

/** A stream that fails before it is read tells whoever reads it. */
const quiet = ({ stream }: OpenedFile): void => { stream.on('error', () => {}) }

function createVerifiedSource (options: VerifiedSourceOptions, first: OpenedFile, index: number): VerifiedSource {
  // Elsewhere the same content may have another name.
  const file = index === 0 ? first.file : options.file
  const expected = usableDigest(file.checksum) ?? options.pinned?.(file)
  const { algorithm, hash } = hashFor(expected)
  const size = file.size ?? first.length
  quiet(first)
  return continueVerifiedSource(options, { file, size, expected, algorithm }, {
    hash,
    at: 0,
    index,
    opened: first,
    ...(first.etag !== undefined && { etag: first.etag })
  })
}

interface Facts { file: FileInfo, size: number | undefined, expected: string | undefined, algorithm: string }
interface Position { hash: Hash, at: number, index: number, opened?: OpenedFile, etag?: string }

function continueVerifiedSource (options: VerifiedSourceOptions, facts: Facts, position: Position): VerifiedSource {
  const {
    sources,
    signal,
    onBytes,
    onResume,
    onDamage,
    random = Math.random,
    wait = async (milliseconds, signal) => {
      await sleep(milliseconds, undefined, { signal })
    }
  } = options
  const { file, size, expected, algorithm } = facts
  const { hash } = position
  let { at, index, opened, etag } = position
  let digest: string | undefined

  const downloadSource = (): DownloadSource => {
    const found = sources[index]
    if (found === undefined) throw new TypeError('A file needs an origin')
    return found
  }

  function damaged (details: string): RegistryError {
    const { instance } = downloadSource()
    onDamage?.(instance, details)
    return registryError('service_unavailable', `Instance ${instance} cannot be asked`, {
      instance,
      details,
      proxyError: 'http_response_incomplete'
    })
  }
  const unfinished = () =>
    registryError('service_unavailable', `Instance ${downloadSource().instance} cannot be asked`, {
      instance: downloadSource().instance,
      details: 'Answer is incomplete',
      proxyError: 'http_response_incomplete'
    })
  /** Marks what no other try can mend. */
  const final = new WeakSet<object>()
  const wrong = (details: string): RegistryError => {
    const error = damaged(details)
    final.add(error)
    return error
  }

  /** Passes on what is new of an upstream's stream; what was there before must be the same. */
  async function * take ({ stream, offset = 0 }: OpenedFile): AsyncGenerator<Buffer, void> {
    const { instance } = downloadSource()
    const repeated = at - offset
    const again = repeated > 0 && offset === 0 ? hashFor(expected).hash : undefined
    let skip = repeated
    for await (const piece of stream) {
      let chunk = piece as Buffer
      onBytes?.(instance, chunk.length)
      if (skip > 0) {
        again?.update(chunk.subarray(0, skip))
        const rest = chunk.subarray(skip)
        skip -= chunk.length - rest.length
        if (skip > 0) continue
        if (again !== undefined && !again.digest().equals(hash.copy().digest())) {
          throw wrong('File changed while it was read')
        }
        chunk = rest
      }
      if (chunk.length === 0) continue
      if (size !== undefined && at + chunk.length > size) throw wrong('File is longer than it was published')
      yield chunk
      hash.update(chunk)
      at += chunk.length
    }
  }

  async function reopen (): Promise<OpenedFile> {
    const found = await downloadSource().open({ offset: at, signal, ...(etag !== undefined && { etag }) })
    if (found === undefined) throw unfinished()
    if (found.file.size !== undefined && size !== undefined && found.file.size !== size) {
      found.stream.destroy()
      throw wrong('File changed while it was read')
    }
    etag = found.etag ?? etag
    quiet(found)
    return found
  }

  async function * chunks (): AsyncGenerator<Buffer, void> {
    let failed = 0
    let mark = at
    for (;;) {
      try {
        opened ??= await reopen()
        const source = opened
        opened = undefined
        yield * take(source)
        if (size === undefined || at === size) break
        throw unfinished()
      } catch (error) {
        // All of it is there, however the connection ended.
        if (size !== undefined && at === size && !signal.aborted && !final.has(error as object)) break
        if (signal.aborted || !mayHelp(error) || final.has(error)) throw error
        if (at - mark >= Math.max(minProgressBytes, Math.min(maxProgressBytes, (size ?? Infinity) / 100))) failed = 0
        mark = at
        if (failed === attempts) throw error
        // First the same place again, then one after the other.
        if (failed > 0 && sources.length > 1) {
          index = (index + 1) % sources.length
          etag = undefined
        }
        const pause = Math.max(
          100 * 2 ** failed * (0.5 + random() / 2),
          Math.min(maxWaitMs, (error.retryAfter ?? 0) * 1000)
        )
        failed++
        await wait(pause, signal)
        onResume?.(downloadSource().instance)
      }
    }
    digest = `${algorithm}:${hash.copy().digest('hex')}`
    if (size !== undefined && at !== size) throw damaged('File is shorter than it was published')
    if (expected !== undefined && digest !== expected) throw damaged('File is damaged')
    await options.settle?.(file, digest, at)
  }

  return {
    file,
    size,
    expected,
    get at () { return at },
    get digest () { return digest ?? `${algorithm}:${hash.copy().digest('hex')}` },
    chunks,
    fork: signal =>
      continueVerifiedSource({ ...options, signal }, facts, {
        hash: hash.copy(),
        at,
        index,
        ...(etag !== undefined && { etag })
      }),
    discard () {
      opened?.stream.destroy()
    }
  }
}
