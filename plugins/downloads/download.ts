import type { Readable } from 'node:stream'
import { untilAborted } from '../../lib/deadline.ts'
import type { Rereleases, VersionRef } from './rereleases.ts'
import type { Blobs } from './store/blobs.ts'
import type { StoreHealth } from './store/health.ts'
import { createPool, type Share } from './transfer/pool.ts'
import { createDirectReader, createGrowingReader, type GrowingFile, type Span } from './transfer/reader.ts'
import type { DownloadSource, FileInfo } from './transfer/source.ts'
import type { Transfer } from './transfer/transfer.ts'
import { openVerifiedSource, type VerifiedSource, type VerifiedSourceObserver } from './transfer/verified-source.ts'

/**
 * Where the bytes of a response come from: the store, a transfer that the request has started, a transfer in progress,
 * or an upstream without the store. The values are label values of metrics.
 */
export const contentSources = ['store', 'upstream', 'coalesced', 'passed'] as const
export type ContentSource = typeof contentSources[number]

/** The file of a version, not opened. It is data only. */
export interface Download {
  /** Version that the file belongs to, of the instance that owns it. */
  ref: VersionRef
  file: FileInfo
  /** When the version was published, as the publisher states. */
  published: string
  /** Whether the file is on the disk of this machine, so that the store needs no copy. */
  local: boolean
  /** Expected digest of the content; absent as long as it is unknown. */
  digest?: string
  /** Whether the file is refused, as a re-release, if its content proves to be different. */
  doubtful: boolean
  /** Time of `performance.now()`, in milliseconds, until which its first byte is waited for. */
  openBy: number
}

/** An opened file. Either `read` or `release` is called, once. */
export interface OpenContent {
  file: FileInfo
  /** Size in bytes, when known. */
  size: number | undefined
  /** Expected digest of the content; undefined as long as it is unknown. */
  digest: string | undefined
  source: ContentSource
  /** Whether an upstream was waited for. */
  waited: boolean
  /**
   * Returns the bytes of a span. The stream ends only when the whole file is verified; else it fails before the end.
   */
  read: (span: Span) => Readable
  release: () => void
}

export interface DownloadsDependencies {
  /** Absent when no file is stored. */
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

/** Sources of a file, and the signal of the client that waits for it. */
export interface OpenContentOptions {
  /** The owner first, then other instances that have the same content. */
  sources: readonly DownloadSource[]
  signal: AbortSignal
}

/** Bytes per read of a reader. With many readers, smaller reads limit the memory that slow ones hold. */
const maxReadBytes = 64 * 1024
const manyReaders = 32
const maxReadBytesOfMany = 16 * 1024

/** Makes opened files of stored files, of transfers and of upstreams, and counts their readers. */
function createContents (onServed?: (source: ContentSource, bytes: number) => void) {
  let readers = 0
  const maxBytes = () => readers > manyReaders ? maxReadBytesOfMany : maxReadBytes

  function counted (
    properties: Omit<OpenContent, 'read' | 'release'>,
    open: (span: Span, onBytes: (count: number) => void) => Readable,
    release: () => void
  ): OpenContent {
    return {
      ...properties,
      read (span) {
        readers++
        const stream = open(span, count => onServed?.(properties.source, count))
        stream.once('close', () => {
          readers--
          release()
        })
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
    counted(properties, (span, onBytes) => createGrowingReader(growingFile, { ...span, maxBytes, onBytes }), release)

  return {
    growing,

    /** Reads straight from an upstream, which `stop` ends. */
    direct: (source: VerifiedSource, stop: AbortController, waited: boolean): OpenContent =>
      counted(
        { file: source.file, size: source.size, digest: source.expected, source: 'passed', waited },
        (span, onBytes) => createDirectReader(source, { ...span, onBytes }),
        () => {
          source.discard()
          stop.abort()
        }
      ),

    /** Reads a transfer, which stays open until the reader has closed. */
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
 * Opens the files of versions: from the store, or from their upstream, by one transfer for all concurrent requests. No
 * reader gets the end of a file before the whole file is verified.
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
        handle,
        written: size,
        verified: true,
        error: undefined,
        rest: undefined,
        changed: () => () => {}
      }
      return contents.growing({ file, size, digest, source: 'store', waited: false }, whole, release)
    } catch (error) {
      opening.then(stored => { stored?.release() }).catch(() => {})
      throw error
    }
  }

  /**
   * Opens the file of a transfer: 'gone' when its upstream does not have it, 'direct' when it is to be read without the
   * store, and 'ended' when the transfer ended before it could be read.
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
      // A file that may be refused is not begun before that is decided.
      if (doubtful && !transfer.over) await untilAborted(transfer.settled, signal)
      if (transfer.over) return 'ended'
      // The same content may be the file of several versions, each with its own name.
      const same = digest !== undefined && digest === transfer.expected
      // A file that was replaced for one version is not the file of the others.
      if (!same && !share.first && digest !== undefined) return 'direct'
      content = contents.shared(transfer, share, same ? file : transfer.file)
      return content
    } finally {
      if (content === undefined) share.leave()
    }
  }

  /** Returns what is known of a file without a request to an upstream. Throws `conflict` for a refused re-release. */
  async function look ({ ref, file }: Pick<Download, 'ref' | 'file'>): Promise<Pick<Download, 'digest' | 'doubtful'>> {
    return await rereleases.look(ref, file)
  }

  /**
   * Opens a file; undefined when it is gone. When `signal` is aborted before, throws its reason; a transfer that has
   * begun continues. Throws errors of the table.
   */
  async function open (download: Download, options: OpenContentOptions): Promise<OpenContent | undefined> {
    const { ref, file, digest, doubtful, local } = download
    const { sources, signal } = options
    if (pool === undefined || blobs === undefined || local) return await openDirectly(download, options)
    const key = digest ?? `${ref.instance} ${file.validator}`
    for (;;) {
      const stored = pool.has(key) ? undefined : await openStored(blobs, download, signal)
      if (stored !== undefined) return stored
      // A transfer that was in progress may have ended meanwhile.
      if (digest !== undefined && !pool.has(key) && blobs.has(digest, file.size)) continue
      // No byte of a file that may be refused is sent before its end. The client may leave earlier; the next request is
      // served from the store then.
      const share = pool.join(key, sourceOptions(download, sources), { finish: doubtful })
      const opened = await openShared(share, download, signal)
      if (opened === 'gone') return undefined
      if (opened === 'direct') return await openDirectly(download, options)
      if (opened !== 'ended') return opened
      // The end of the transfer has decided whether the file is refused, and has given it a digest.
      if (doubtful) return await open({ ...download, ...await look(download) }, options)
    }
  }

  return {
    /** Returns the number of files that are transferred from upstreams to the store. */
    active: (): number => pool?.active() ?? 0,
    look,
    open,

    /** Returns the content of the store, and its events since the start; zeros without a store. */
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
