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

/** A version of an extension. */
export interface VersionName { type: ExtensionType, name: string, version: string }

/** What one instance has of some types. */
export interface Listing {
  /** Of each type asked for, ordered by name. The same object as long as nothing changed. */
  types: ReadonlyMap<ExtensionType, readonly Extension[]>
  /** Whether entries may be missing because part of the upstream could not be read, and no earlier answer stands in. */
  incomplete: boolean
  /** `{type}/{name}` of those that are missing by name. */
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

/** What an instance knows, as records that outlive the process. */
export interface Records {
  /** Everything that can be remembered, made while it is read. */
  records (): Iterable<SnapshotRecord>
  /** Takes records back, as old answers that may stand in. */
  restore (records: readonly SnapshotRecord[]): void
}

/**
 * An instance as the catalog reads it: a driver behind the cache. An absence is a value, and a failure throws the error
 * of the driver. An absence with `error` rests on the last complete listing only, because the upstream is unavailable.
 * The `cached…` methods return a result at once if all of it is fresh in the cache, and undefined otherwise.
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
  /** The file of a version, unopened; undefined when there is no such version, `file` absent when it has no file. */
  stat(
    type: ExtensionType,
    name: string,
    version: string,
    options?: ReadOptions
  ): Promise<CachedResult<{ file?: FileReference, published_at: string } | undefined>>
  /**
   * Opens a file; undefined when it is gone. With `version` a file that is gone is looked up once more in the release
   * of that version, and the file that has replaced it is opened.
   */
  open (file: FileReference, options: OpenOptions, version?: VersionName): Promise<Artifact | undefined>
  /** A file of the same content among those that were told of last; asks nobody. */
  holding (checksum: string): FileReference | undefined
  /** Asks the upstream now, past the cache. */
  ping (signal: AbortSignal): Promise<void>
  /**
   * Walks the upstream again, behind the caller, unless the last walk is young, or the upstream is left alone. A walk
   * that failed is soon made again, and at once when the upstream has `recovered`.
   */
  refresh (options?: { recovered?: boolean }): void
  /** Why the last walk over the upstream failed; undefined when it did not. */
  readonly failure: RegistryError | undefined
  /** Whether the upstream is asked (`closed`), left alone after failures (`open`), or being tested (`half-open`). */
  readonly circuit: Circuit
  /** Says what the instance is configured to read: what was remembered of anything else is not its own. */
  readonly identity: string
  /** What outlives the process. */
  readonly savedRecords: Records
  /** How many loads have changed what is remembered. */
  readonly loads: number
  /** What the last reads of the upstream skipped. */
  skipped (): SkippedReport
  /** What is in the cache now, without asking or counting; undefined when there is none. */
  peek (type: ExtensionType): readonly Extension[] | undefined
}
