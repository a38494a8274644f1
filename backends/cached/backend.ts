import type { RegistryError } from '../../lib/errors.ts'
import type { CacheUse } from '../../plugins/cache/cache.ts'
import type { Circuit } from './breaker.ts'
import type { SnapshotRecord } from '../../schemas/snapshot.ts'
import type { Extension, ExtensionSource, ExtensionType, ExtensionVersion } from '../../schemas/extension.ts'
import type { FileReference, Artifact, OpenOptions, SkipReason, Skipped } from '../driver/driver.ts'
import type { CachedResult } from '../../lib/result.ts'

/** Limits of a read. */
export interface ReadOptions {
  /** Seconds: maximum age of the entries that an absence rests on. Older ones are loaded again, once. */
  maxAge?: number
  /** Ends the wait of the caller. Loads continue. */
  signal?: AbortSignal
}

/** A result from the cache alone. Nothing is counted until `Backend.use` is called with its uses. */
export interface CachedRead<T> extends CachedResult<T> { uses: readonly CacheUse[] }

export interface VersionName { type: ExtensionType, name: string, version: string }

/** Extensions of some types of one instance. */
export interface Listing {
  /** Extensions of each requested type, ordered by name. The same object as long as nothing has changed. */
  types: ReadonlyMap<ExtensionType, readonly Extension[]>
  /**
   * Whether entries may be missing because part of the upstream could not be read, and no stale entries replace them.
   */
  incomplete: boolean
  /** `{type}/{name}` of the missing extensions whose names are known. */
  unread: ReadonlySet<string>
}

/** A skipped item of one instance. */
export interface SkippedItem extends Skipped {
  instance: string
  /** When it was first skipped: UTC with `Z`, whole seconds. */
  since: string
}

/** Skipped items that may be named, and the number of all skipped items, the hidden ones included. */
export interface SkippedReport {
  items: readonly SkippedItem[]
  counts: ReadonlyArray<{ instance: string, kind: Skipped['kind'], reason: SkipReason, count: number }>
}

/** Cached data of an instance, as records that outlive the process. */
export interface Records {
  /** Returns the records of all cached data. Each record is created when it is read. */
  records (): Iterable<SnapshotRecord>
  /** Puts records into the cache, as stale entries. */
  restore (records: readonly SnapshotRecord[]): void
}

/**
 * An instance as the catalog reads it: a driver behind the cache. An absence is a value, and a failure throws the error
 * of the driver. An absence with `error` rests on the last complete listing only, because the upstream is unavailable.
 * The `cached…` methods return a result at once if every part of it is fresh in the cache, and undefined otherwise.
 */
export interface Backend {
  readonly name: string
  readonly source: ExtensionSource
  /** Whether its files are on this machine's own disk. */
  readonly local: boolean
  /** Smaller first, see {@link byOwnership}. */
  readonly priority: number
  cachedList (types: readonly ExtensionType[]): CachedRead<Listing> | undefined
  list (types: readonly ExtensionType[], options?: ReadOptions): Promise<CachedResult<Listing>>
  cachedFind (type: ExtensionType, name: string): CachedRead<Extension | undefined> | undefined
  find (type: ExtensionType, name: string, options?: ReadOptions): Promise<CachedResult<Extension | undefined>>
  /** Returns `true` where `find` returns an extension, and looks up no checksum for it. */
  has (type: ExtensionType, name: string, options?: ReadOptions): Promise<CachedResult<true | undefined>>
  cachedVersions (type: ExtensionType, name: string): CachedRead<readonly ExtensionVersion[] | undefined> | undefined
  /** Returns the versions, highest first. */
  versions(
    type: ExtensionType,
    name: string,
    options?: ReadOptions
  ): Promise<CachedResult<readonly ExtensionVersion[] | undefined>>
  /** Counts a read of the cache that is sent to a client as hits, and refreshes its entries before they expire. */
  use (uses: readonly CacheUse[]): void
  /**
   * Returns the file of a version, not opened, or without `file` when it has none; undefined for an unknown version.
   */
  stat(
    type: ExtensionType,
    name: string,
    version: string,
    options?: ReadOptions
  ): Promise<CachedResult<{ file?: FileReference, published_at: string } | undefined>>
  /**
   * Opens a file; undefined when it no longer exists. With `version`, a missing file is looked up once more in the
   * release of that version, and the file that has replaced it is opened.
   */
  open (file: FileReference, options: OpenOptions, version?: VersionName): Promise<Artifact | undefined>
  /** Returns a file of the same content among the files that were shown last. Sends no request. */
  holding (checksum: string): FileReference | undefined
  /** Sends a request to the upstream now, without the cache. */
  ping (signal: AbortSignal): Promise<void>
  /**
   * Crawls the upstream in the background, unless the last crawl is young, or no request may be sent. A crawl that
   * failed is soon repeated, and at once when the upstream has `recovered`.
   */
  refresh (options?: { recovered?: boolean }): void
  /** Error of the last crawl; undefined when it succeeded. */
  readonly failure: RegistryError | undefined
  /**
   * State of the circuit breaker: requests are sent (`closed`), refused after failures (`open`), or tested
   * (`half-open`).
   */
  readonly circuit: Circuit
  /** Identifies the data that the instance is configured to read. Records with another identity are not used. */
  readonly identity: string
  /** Cached data that outlives the process. */
  readonly savedRecords: Records
  /** Number of loads that have changed the cached data. */
  readonly loads: number
  /** Returns the items that the last reads of the upstream skipped. */
  skipped (): SkippedReport
  /** Returns the cached extensions of a type; undefined when there are none. Sends no request, and counts nothing. */
  peek (type: ExtensionType): readonly Extension[] | undefined
}
