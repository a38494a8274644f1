import type { RegistryError } from '../../lib/errors.ts'

/** Parts of the cache, which are counted separately. */
export const cacheSections = ['list', 'metadata', 'versions'] as const
export type CacheSection = typeof cacheSections[number]

/** A typed place in the cache, made by `cacheKey`. */
export interface CacheKey<T> { section: CacheSection, key: string, type?: T }

/** Result of a load for one key: a value, or `undefined` when it is proven absent. `ttl` is in seconds. */
export interface LoadedEntry { section: CacheSection, key: string, value: unknown, ttl?: number }

/** How an entry is loaded. */
export interface Loader {
  /** Loads with the same name run one at a time, and callers of a load in progress share it. */
  flight: string
  /** Returns everything that the load found. Its errors are never cached. */
  load: () => Promise<LoadedEntry[]>
  /** Returns why no load is started now, because no request is sent to the upstream; called before each load. */
  blocked?: () => RegistryError | undefined
  /** Seconds: an entry older than this is loaded again, though fresh; negative for any entry at all. */
  maxAge?: number
  /** Seconds: the same for a remembered absence that something newer contradicts. */
  maxAbsence?: number
  /** Ends the wait of the caller. The load continues. */
  signal?: AbortSignal
  /** Whether the caller has an older result from elsewhere. It then waits as short as for an expired entry. */
  standIn?: boolean
  /** Name of the instance, for the error when the load takes too long. */
  instance?: string
}
