import type { Readable } from 'node:stream'
import { untilAborted } from '../../lib/deadline.ts'
import type { Rereleases, VersionRef } from './rereleases.ts'
import type { Blobs } from './store/blobs.ts'
import type { StoreHealth } from './store/directory.ts'
import { createPool, type Share, type Transfer } from './transfer/transfer.ts'
import { createReadBudget } from './transfer/read-buffers.ts'
import { createDirectReader, createGrowingReader, type GrowingFile, type Span } from './transfer/reader.ts'
import type { DownloadSource, FileInfo } from './transfer/source.ts'
import { openVerifiedSource, type VerifiedSource, type VerifiedSourceObserver } from './transfer/verified-source.ts'

/**
 * Origin of the bytes of a response: the store, a new transfer, a transfer in progress, or an upstream without the
 * store. The values are label values of metrics.
 */
export const contentSources = ['store', 'upstream', 'coalesced', 'passed'] as const
export type ContentSource = typeof contentSources[number]

/** File of a version, not opened. It contains data only. */
export interface Download {
  /** Version of the file, with the instance that owns it. */
  ref: VersionRef
  file: FileInfo
  /** Publication time of the version, from its publisher. */
  published: string
  /** Whether the file is on a local disk, so that the store needs no copy. */
  local: boolean
  /** Expected digest of the content; absent while it is unknown. */
  digest?: string
  /** Whether the file is refused as a re-release if its content differs from the earlier one. */
  doubtful: boolean
  /** Deadline for the first byte, in milliseconds of `performance.now()`. */
  openBy: number
}

/** An opened file. Exactly one call of `read` or `release` is required. */
export interface OpenContent {
  file: FileInfo
  /** Size in bytes, when known. */
  size: number | undefined
  /** Expected digest of the content; undefined while it is unknown. */
  digest: string | undefined
  source: ContentSource
  /** Whether the request has waited for an upstream. */
  waited: boolean
  /**
   * Returns the bytes of a span. The stream ends only after the whole file is verified; otherwise it fails before its
   * end.
   */
  read: (span: Span) => Readable
  release: () => void
}

export interface DownloadsDependencies {
  /** Store of the files; absent when files are not stored. */
  blobs?: Blobs
  health: StoreHealth
  rereleases: Rereleases
  /** Maximum size in bytes of a file whose transfer continues without a reader. */
  finishBytes: number
  observer?: Omit<VerifiedSourceObserver, 'onDamage'> & {
    onServed?: (source: ContentSource, bytes: number) => void
    /** Called when an instance sent content that differs from the published content. */
    onDamage?: (instance: string, ref: VersionRef, details: string) => void
  }
}

/** Sources of a file, and the signal of the request. */
export interface OpenContentOptions {
  /** Sources in order: the owner, then other instances that have the same content. */
  sources: readonly DownloadSource[]
  signal: AbortSignal
}

/** Maximum bytes that all readers together have read ahead of their clients. */
const maxReadAheadBytes = 4 * 1024 * 1024

/** Creates opened files from stored files, transfers and upstreams. */
function createContents (onServed?: (source: ContentSource, bytes: number) => void) {
  const budget = createReadBudget(maxReadAheadBytes)

  function counted (
    properties: Omit<OpenContent, 'read' | 'release'>,
    open: (span: Span, onBytes: (count: number) => void) => Readable,
    release: () => void
  ): OpenContent {
    return {
      ...properties,
      read (span) {
        const stream = open(span, count => onServed?.(properties.source, count))
        stream.once('close', release)
        return stream
      },
      release
    }
  }

  const growing = (
    properties: Omit<OpenContent, 'read' | 'release'>,
    growingFile: GrowingFile,
    release: () => void
  ): OpenContent =>
    counted(properties, (span, onBytes) => createGrowingReader(growingFile, { ...span, budget, onBytes }), release)

  return {
    growing,

    /** Reads directly from an upstream; `stop` aborts the request. */
    direct: (source: VerifiedSource, stop: AbortController, waited: boolean): OpenContent =>
      counted(
        { file: source.file, size: source.size, digest: source.expected, source: 'passed', waited },
        (span, onBytes) => createDirectReader(source, { ...span, onBytes }),
        () => {
          source.discard()
          stop.abort()
        }
      ),

    /** Reads a transfer, which stays open until its reader has closed. */
    shared (transfer: Transfer, share: Share, file: FileInfo): OpenContent {
      const { size, expected: digest } = transfer
      const letGo = transfer.hold()
      return growing(
        { file, size, digest, source: share.first ? 'upstream' : 'coalesced', waited: true },
        transfer.growing,
        () => {
          letGo()
          share.leave()
        }
      )
    }
  }
}

/**
 * Creates the function that opens the file of a version: from the store, or from its upstream by one transfer for all
 * concurrent requests. A reader receives the end of a file only after the whole file is verified.
 */
export function createDownloads ({ blobs, health, rereleases, finishBytes, observer = {} }: DownloadsDependencies) {
  const { onServed, onDamage, ...sourceObserver } = observer
  const pool = blobs === undefined ? undefined : createPool({ blobs, finishBytes, onRefused: health.failed })
  const contents = createContents(onServed)

  const sourceOptions = ({ ref, file, digest }: Download, sources: readonly DownloadSource[]) => ({
    ...sourceObserver,
    onDamage: (instance: string, details: string) => { onDamage?.(instance, ref, details) },
    file,
    sources,
    pinned: (opened: FileInfo) => opened.validator === file.validator ? digest : undefined,
    settle: async (opened: FileInfo, digest: string, size: number) => {
      await rereleases.settle(ref, opened, digest, size)
    }
  })

  async function openDirectly (
    download: Download,
    { sources, signal }: OpenContentOptions
  ): Promise<OpenContent | undefined> {
    const stop = new AbortController()
    const opening = openVerifiedSource({ ...sourceOptions(download, sources), signal: stop.signal })
    try {
      const source = await untilAborted(opening, signal)
      return source === undefined ? undefined : contents.direct(source, stop, !download.local)
    } catch (error) {
      stop.abort()
      opening.then(source => { source?.discard() }).catch(() => {})
      throw error
    }
  }

  async function openStored (
    store: Blobs,
    { file, digest }: Download,
    signal: AbortSignal
  ): Promise<OpenContent | undefined> {
    if (digest === undefined) return undefined
    const opening = store.open(digest, file.size)
    try {
      const stored = await untilAborted(opening, signal)
      if (stored === undefined) return undefined
      const { handle, size, release } = stored
      const whole = {
        arrived: size,
        verified: true,
        error: undefined,
        rest: undefined,
        read: async (target: Buffer, offset: number) =>
          (await handle.read(target, 0, target.length, offset)).bytesRead,
        changed: () => () => {}
      }
      return contents.growing({ file, size, digest, source: 'store', waited: false }, whole, release)
    } catch (error) {
      opening.then(stored => { stored?.release() }).catch(() => {})
      throw error
    }
  }

  /**
   * Opens the file of a transfer. Returns 'gone' when the upstream does not have it, and 'direct' when it must be read
   * without the store. Returns 'ended' when the transfer ended before it could be read.
   */
  async function openShared (
    share: Share,
    { file, digest, doubtful }: Download,
    signal: AbortSignal
  ): Promise<OpenContent | 'gone' | 'direct' | 'ended'> {
    let content: OpenContent | undefined
    try {
      const transfer = await untilAborted(share.opening, signal)
      if (transfer === undefined) return 'gone'
      if (transfer === 'direct') return 'direct'
      // A file that may be refused is not sent before that is decided.
      if (doubtful && !transfer.over) await untilAborted(transfer.settled, signal)
      if (transfer.over) return 'ended'
      // Several versions may have the same content under different file names.
      const same = digest !== undefined && digest === transfer.expected
      // A file that was replaced for one version is not the file of the other versions.
      if (!same && !share.first && digest !== undefined) return 'direct'
      content = contents.shared(transfer, share, same ? file : transfer.file)
      return content
    } finally {
      if (content === undefined) share.leave()
    }
  }

  /**
   * Returns the known digest of a file, without a request to an upstream. Throws `conflict` for a refused re-release.
   */
  async function look ({ ref, file }: Pick<Download, 'ref' | 'file'>): Promise<Pick<Download, 'digest' | 'doubtful'>> {
    return await rereleases.look(ref, file)
  }

  /**
   * Opens a file; undefined when it is absent. Throws a `RegistryError`, or the reason of `signal` when that is aborted
   * first. A transfer that has begun continues.
   */
  async function open (download: Download, options: OpenContentOptions): Promise<OpenContent | undefined> {
    const { ref, file, digest, doubtful, local } = download
    const { sources, signal } = options
    if (pool === undefined || blobs === undefined || local) return await openDirectly(download, options)
    const key = digest ?? `${ref.instance} ${file.validator}`
    for (;;) {
      const stored = pool.has(key) ? undefined : await openStored(blobs, download, signal)
      if (stored !== undefined) return stored
      // A transfer that was in progress may have ended in the meantime.
      if (digest !== undefined && !pool.has(key) && blobs.has(digest, file.size)) continue
      // A file that may be refused is sent only after its transfer has ended. If the client disconnects before that,
      // the next request is served from the store.
      const share = pool.join(key, sourceOptions(download, sources), { finish: doubtful })
      const opened = await openShared(share, download, signal)
      if (opened === 'gone') return undefined
      if (opened === 'direct') return await openDirectly(download, options)
      if (opened !== 'ended') return opened
      // At its end the transfer has decided whether the file is refused, and has set its digest.
      if (doubtful) return await open({ ...download, ...await look(download) }, options)
    }
  }

  return {
    /** Returns the number of transfers from upstreams to the store. */
    active: (): number => pool?.active() ?? 0,
    look,
    open,

    /** Returns the size of the store, and its counters since the start; zeros without a store. */
    statistics: () => ({
      hits: 0,
      misses: 0,
      evictions: 0,
      damaged: 0,
      entries: 0,
      bytes: 0,
      ...blobs?.statistics(),
      failures: health.failures,
      usable: blobs !== undefined && health.usable
    }),

    async close (): Promise<void> {
      await pool?.close()
      await blobs?.close()
    }
  }
}
export type Downloads = ReturnType<typeof createDownloads>
