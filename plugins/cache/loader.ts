import type { RegistryError } from '../../lib/errors.ts'

/** Sections of the cache, which are counted separately. */
export const cacheSections = ['list', 'metadata', 'versions'] as const
export type CacheSection = typeof cacheSections[number]

/** A typed key of the cache, created by `cacheKey`. */
export interface CacheKey<T> { section: CacheSection, key: string, type?: T }

/** Result of a load for one key: a value, or `undefined` for a proven absence. `ttl` is in seconds. */
export interface LoadedEntry { section: CacheSection, key: string, value: unknown, ttl?: number }

/** Functions and limits for the load of an entry. */
export interface Loader {
  /** Name of the load. Loads with the same name run one at a time, and callers share a load in progress. */
  flight: string
  /** Returns all entries that the load found. Its errors are never cached. */
  load: () => Promise<LoadedEntry[]>
  /** Returns the reason why a load must not start, such as an open circuit breaker; called before each load. */
  blocked?: () => RegistryError | undefined
  /** Maximum age in seconds of a usable entry, even if it is fresh; a negative value forces a load. */
  maxAge?: number
  /** Maximum age in seconds of a usable absence. */
  maxAbsence?: number
  /** Signal that ends the wait of the caller. The load continues. */
  signal?: AbortSignal
  /** Whether the caller has an older result from another place. Its wait is then as short as with an expired entry. */
  standIn?: boolean
  /** Name of the instance, for the error when the load takes too long. */
  instance?: string
}
