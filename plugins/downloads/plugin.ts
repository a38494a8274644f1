import type { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../../schemas/config.ts'
import { createBlobs, type Blobs, type StoredFile } from './store/blobs.ts'
import { createStoreHealth, type StoreHealth } from './store/health.ts'
import { createStorePaths, defaultDirectory } from './store/paths.ts'
import { createPins } from './store/pins.ts'
import { openVerifiedSource, type VerifiedSource, type VerifiedSourceObserver } from './transfer/verified-source.ts'
import { createPool, type Share } from './transfer/pool.ts'
import { createGrowingReader, createPassingReader, type Span } from './transfer/reader.ts'
import { createRereleases, type Rereleases, type VersionRef } from './rereleases.ts'
import type { FileInfo, DownloadSource } from './transfer/source.ts'
import type { Transfer } from './transfer/transfer.ts'
import type { Telemetry } from '../metrics/registry.ts'

export type { FileInfo as FileFacts, OpenAt, OpenedFile, DownloadSource as Origin } from './transfer/source.ts'
export type { VersionRef as Subject } from './rereleases.ts'

/**
 * Where the bytes of an answer come from: the store, a transfer that was started for it, one that was under way, or
 * straight from where the file is.
 */
export const contentSources = ['store', 'upstream', 'coalesced', 'passed'] as const
export type ContentSource = typeof contentSources[number]

/** A file that is wanted. */
export interface Wanted {
  file: FileInfo
  /** Where it is; the owner first, then others that have the same digest. */
  sources: readonly DownloadSource[]
  ref: VersionRef
  /** Whether it is on this machine's own disk: a copy would be of no use. */
  local?: boolean
}

/** A file that can be read: `read` or `release` is called, once. */
export interface OpenContent {
  file: FileInfo
  size: number | undefined
  /** The digest that it has, where that is known by now. */
  digest: string | undefined
  source: ContentSource
  /** Whether an upstream was asked for it. */
  waited: boolean
  /** Bytes of it; ends only when the whole file is verified, else it fails short of the end. */
  read: (span: Span) => Readable
  release: () => void
}

export interface DownloadsDependencies {
  /** Absent when nothing is to be kept. */
  blobs?: Blobs
  health: StoreHealth
  rereleases: Rereleases
  finishBytes: number
  observer?: Omit<VerifiedSourceObserver, 'onDamage'> & {
    onServed?: (source: ContentSource, bytes: number) => void
    /** What an instance gave for a version is not what was published. */
    onDamage?: (instance: string, ref: VersionRef, details: string) => void
  }
}

/** Bytes that are read at once for a reader, and for each where readers are many: slow ones among them cost memory. */
const atOnce = 64 * 1024
const many = 32
const amongMany = 16 * 1024

/** The result of `work` as long as it is wanted; else why it no longer is. */
async function whileWanted<T> (signal: AbortSignal, work: Promise<T>): Promise<T> {
  signal.throwIfAborted()
  const gone = Promise.withResolvers<never>()
  const abort = () => { gone.reject(signal.reason) }
  signal.addEventListener('abort', abort)
  return await Promise.race([work, gone.promise]).finally(() => { signal.removeEventListener('abort', abort) })
}

/**
 * The files themselves: from the store, else from their upstream, once for all who want one at the same time. Nobody
 * gets the end of a file before all of it is what was published.
 */
export function createDownloads ({ blobs, health, rereleases, finishBytes, observer = {} }: DownloadsDependencies) {
  const { onServed, onDamage, ...sourceObserver } = observer
  const pool = blobs === undefined ? undefined : createPool({ blobs, finishBytes, onRefused: health.failed })
  let readers = 0
  const piece = () => readers > many ? amongMany : atOnce

  const sourceOptions = ({ file, sources, ref }: Wanted, digest: string | undefined) => ({
    ...sourceObserver,
    onDamage: (instance: string, details: string) => { onDamage?.(instance, ref, details) },
    file,
    sources,
    pinned: (opened: FileInfo) => opened.validator === file.validator ? digest : undefined,
    settle: async (opened: FileInfo, digest: string, size: number) => {
      await rereleases.settle(ref, opened, digest, size)
    }
  })

  /** Content whose reader is counted, and after which something is let go. */
  function content (
    facts: Omit<OpenContent, 'read' | 'release'>,
    open: (span: Span, onBytes: (count: number) => void) => Readable,
    release: () => void
  ): OpenContent {
    return {
      ...facts,
      read (span) {
        readers++
        const stream = open(span, count => onServed?.(facts.source, count))
        stream.once('close', () => {
          readers--
          release()
        })
        return stream
      },
      release
    }
  }

  function fromStore (file: FileInfo, digest: string, { handle, size, release }: StoredFile): OpenContent {
    const whole = { handle, written: size, verified: true, error: undefined, rest: undefined, changed: () => () => {} }
    return content(
      { file, size, digest, source: 'store', waited: false },
      (span, onBytes) => createGrowingReader(whole, { ...span, piece, onBytes }),
      release
    )
  }

  function fromTransfer (
    { growing, size, expected, hold }: Transfer,
    { first, leave }: Share,
    file: FileInfo
  ): OpenContent {
    const letGo = hold()
    return content(
      { file, size, digest: expected, source: first ? 'upstream' : 'coalesced', waited: true },
      (span, onBytes) => createGrowingReader(growing, { ...span, piece, onBytes }),
      () => {
        letGo()
        leave()
      }
    )
  }

  function passed (flow: VerifiedSource, stop: AbortController, waited: boolean): OpenContent {
    const { file, size, expected: digest } = flow
    return content(
      { file, size, digest, source: 'passed', waited },
      (span, onBytes) => createPassingReader(flow, { ...span, onBytes }),
      () => {
        flow.discard()
        stop.abort()
      }
    )
  }

  async function openApart (
    wanted: Wanted,
    digest: string | undefined,
    signal: AbortSignal
  ): Promise<OpenContent | undefined> {
    const stop = new AbortController()
    const opening = openVerifiedSource({ ...sourceOptions(wanted, digest), signal: stop.signal })
    try {
      const flow = await whileWanted(signal, opening)
      return flow === undefined ? undefined : passed(flow, stop, wanted.local !== true)
    } catch (error) {
      stop.abort()
      opening.then(flow => { flow?.discard() }).catch(() => {})
      throw error
    }
  }

  async function openStored (file: FileInfo, digest: string, signal: AbortSignal): Promise<OpenContent | undefined> {
    const opening = blobs?.open(digest, file.size) ?? Promise.resolve(undefined)
    try {
      const stored = await whileWanted(signal, opening)
      return stored === undefined ? undefined : fromStore(file, digest, stored)
    } catch (error) {
      opening.then(stored => { stored?.release() }).catch(() => {})
      throw error
    }
  }

  return {
    /** Files under way from upstreams to the store. */
    active: (): number => pool?.active() ?? 0,

    /**
     * The digest of a file as far as it is known without asking anybody. Throws `conflict` for a re-release that is
     * refused.
     */
    async look ({ file, ref }: Pick<Wanted, 'file' | 'ref'>): Promise<string | undefined> {
      return (await rereleases.look(ref, file)).digest
    },

    /**
     * Opens a file; undefined when it is gone. When `signal` is aborted before, it throws its reason, and what was
     * begun goes on without the caller. Throws errors of the table.
     */
    async open (wanted: Wanted, signal: AbortSignal): Promise<OpenContent | undefined> {
      const { file, ref, local = false } = wanted
      const { digest, doubtful } = await rereleases.look(ref, file)
      if (pool === undefined || blobs === undefined || local) return await openApart(wanted, digest, signal)
      const key = digest ?? `${ref.instance} ${file.validator}`
      for (;;) {
        const stored = digest === undefined || pool.has(key) ? undefined : await openStored(file, digest, signal)
        if (stored !== undefined) return stored
        // One that was under way may have ended meanwhile.
        if (digest !== undefined && !pool.has(key) && blobs.has(digest, file.size)) continue
        // Of what may have to be refused nothing is sent before its end: nobody may have the patience, but the next one
        // gets it.
        const share = pool.join(key, sourceOptions(wanted, digest), { finish: doubtful })
        try {
          const transfer = await whileWanted(signal, share.opening)
          let apart = transfer === 'apart'
          if (transfer === undefined) {
            share.leave()
            return undefined
          }
          if (transfer !== 'apart' && !transfer.over) {
            // What may have to be refused is not begun before that is known.
            if (doubtful) await whileWanted(signal, transfer.settled)
            // The same content may be the file of several versions, each with a name of its own.
            const same = digest !== undefined && digest === transfer.expected
            if (!transfer.over && (same || share.first || digest === undefined)) {
              return fromTransfer(transfer, share, same ? file : transfer.file)
            }
            // What was replaced for one of them is not the others' file.
            apart = !transfer.over
          }
          share.leave()
          if (apart) return await openApart(wanted, digest, signal)
          if (doubtful) return await this.open(wanted, signal)
        } catch (error) {
          share.leave()
          throw error
        }
      }
    },

    /** What the store holds now, and what has become of it since the start; zero without one. */
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

/** Metrics that are read when they are asked for. */
function observeStore ({ gauge, counter }: Telemetry, { active, statistics }: Downloads): void {
  const one = (value: () => number) => () => [{ labels: {}, value: value() }]
  gauge<string>('transfers_active', 'Files under way from upstreams to the store', [], one(active))
  gauge<string>('store_bytes', 'Bytes of verified files in the store', [], one(() => statistics().bytes))
  gauge<string>('store_entries', 'Verified files in the store', [], one(() => statistics().entries))
  gauge<string>(
    'store_usable',
    'Whether files can be kept: 1, or 0 while downloads go on without the store',
    [],
    one(() => Number(statistics().usable))
  )
  counter<string>('store_hits_total', 'Downloads that the store answered', [], one(() => statistics().hits))
  counter<string>(
    'store_misses_total',
    'Downloads of a known digest that the store did not have',
    [],
    one(() => statistics().misses)
  )
  counter<string>(
    'store_evictions_total',
    'Files pushed out of the store by others',
    [],
    one(() => statistics().evictions)
  )
  counter<string>(
    'store_damaged_total',
    'Files in the store that were no longer what they were, and removed',
    [],
    one(() => statistics().damaged)
  )
  counter<string>(
    'store_failures_total',
    'Times that the directory of the store could not be used',
    [],
    one(() => statistics().failures)
  )
}

declare module 'fastify' {
  interface FastifyInstance { downloads: Downloads }
}

export interface DownloadsOptions { config: Config }

/** Each instance's upstream, by the instance's name. */
function upstreams ({ gitea, oci }: Config): Map<string, string> {
  return new Map([
    ...gitea.map((
      { name, url, organization }
    ): [string, string] => [name, JSON.stringify(['gitea', url, organization])]),
    ...oci.map((
      { name, registry, namespace }
    ): [string, string] => [name, JSON.stringify(['oci', registry, namespace])])
  ])
}

/** `fastify.downloads`: the store and the transfers into it. */
async function downloads (fastify: FastifyInstance, { config }: DownloadsOptions): Promise<void> {
  const { cache: { now: clock }, telemetry, log } = fastify
  const { enabled, directory: configured, max_bytes: maxBytes, finish_bytes: finishBytes, on_rerelease: onRerelease } =
    config.store
  const identities = upstreams(config)
  const directory = configured ?? defaultDirectory([...identities.values()])
  const health = createStoreHealth({ enabled, log, clock })
  if (enabled && directory === undefined) health.failed(new Error('There is no directory for caches'))
  const names = enabled && directory !== undefined ? createStorePaths(directory) : undefined
  const blobs = names === undefined ? undefined : createBlobs({ names, health, maxBytes, clock })
  const rereleases = createRereleases({
    pins: createPins({ names, health }),
    onRerelease,
    identity: instance => identities.get(instance) ?? instance,
    log,
    onFound: telemetry.observeRerelease
  })
  const downloads = createDownloads({
    ...(blobs !== undefined && { blobs }),
    health,
    rereleases,
    finishBytes,
    observer: {
      onBytes: telemetry.observeFetched,
      onResume: telemetry.observeResume,
      onDamage (backend, { type, name, version }, details) {
        telemetry.observeDamage(backend)
        // Who reads it sees a broken transfer; this is for whoever can mend it, and there also when nobody reads it.
        log.warn({ backend, extension: `${type}/${name}`, version, details }, 'a file is not what was published')
      },
      onServed: telemetry.observeServed
    }
  })
  fastify.decorate('downloads', downloads)
  fastify.addHook('onClose', async () => { await downloads.close() })
  observeStore(telemetry, downloads)
}

export default fp(downloads, {
  name: 'registry-downloads',
  fastify: '5.x',
  dependencies: ['registry-cache', 'registry-telemetry'],
  decorators: { fastify: ['cache', 'telemetry'] }
})
