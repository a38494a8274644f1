import { LRUCache } from 'lru-cache'
import { isRegistryError, type RegistryError } from '../../lib/errors.ts'
import type { CachedResult } from '../../lib/result.ts'
import type { CacheConfig } from '../../schemas/config.ts'
import { createCacheEntries, seconds, type CacheEntry, type Counts } from './entries.ts'
import { createFlights, type CacheKey, type CacheSection, type LoadedEntry, type Loader } from './loads.ts'

export { cacheSections, type CacheKey, type CacheSection, type LoadedEntry, type Loader } from './loads.ts'

export interface CacheOptions extends CacheConfig {
  /** Returns the milliseconds of a monotonic clock. */
  clock?: () => number
  /**
   * Maximum milliseconds from the start of a load for which a request waits; the load itself continues. 10,000 if
   * unset.
   */
  budget?: number
  /** Maximum milliseconds of the wait when an expired entry can be used; 1,000 if unset. */
  staleBudget?: number
}

/** A key that was read, and the loader of its entry. */
export interface CacheUse<T = unknown> { key: CacheKey<T>, loader: Loader }

/** Maximum bytes of immutable content. */
const maxImmutableBytes = 64 * 1024 * 1024
/** Fraction of the time to live after which an entry in use is refreshed in the background. */
const refreshAhead = 0.8
const defaultBudgetMs = 10_000
const defaultStaleBudgetMs = 1000

/** Returns a typed key of the cache. */
export const cacheKey = <T>(section: CacheSection, key: string): CacheKey<T> => ({ section, key })

/** Returns the result of a load for one key; `ttl` is in seconds. */
export const loadedEntry = <T>({ section, key }: CacheKey<T>, value: T | undefined, ttl?: number): LoadedEntry =>
  ttl === undefined ? { section, key, value } : { section, key, value, ttl }

/**
 * Creates an LRU cache with a time to live and three sections that share one capacity. Each read has a loader: one load
 * of each name runs at a time, independent of its callers. An entry in use is refreshed before it expires. When a load
 * fails, an expired entry is used for `stale_if_error_seconds`; a load that recently failed or is slow is not waited
 * for. Absences are stored separately, for `negative_ttl_seconds`.
 */
export function createCache (options: CacheOptions) {
  const { clock = () => performance.now(), budget = defaultBudgetMs, staleBudget = defaultStaleBudgetMs } = options
  const entries = createCacheEntries({ ...options, clock })
  const { counts } = entries
  const immutable = new LRUCache<string, Buffer>({
    maxSize: maxImmutableBytes,
    sizeCalculation: bytes => bytes.length + 1
  })
  const flights = createFlights({
    clock,
    maxWaitMs: budget,
    maxStaleWaitMs: staleBudget,
    keep: entry => { entries.keep(entry) }
  })

  /** Starts a load in the background for an age above `refreshAhead` of the time to live, or above `maxAge`. */
  function refreshOld ({ age, ttl }: { age: number, ttl: number }, loader: Loader): void {
    const youngMs = Math.min(ttl * refreshAhead, (loader.maxAge ?? Infinity) * 1000)
    if (age > youngMs && loader.blocked?.() === undefined) flights.start(loader)
  }

  /** Loads an entry in the background when it is missing or old. */
  function refresh ({ key }: CacheKey<unknown>, loader: Loader): void {
    refreshOld(entries.lifeOf(key, clock()) ?? { age: Infinity, ttl: 0 }, loader)
  }

  /** Counts a hit of each entry, and refreshes an entry that expires soon. */
  function use (uses: readonly CacheUse[]): void {
    const now = clock()
    for (const { key: { section, key }, loader } of uses) {
      counts[section].hits++
      const life = entries.lifeOf(key, now)
      if (life !== undefined) refreshOld(life, loader)
    }
  }

  /** Returns an expired entry in place of a load. Throws the error of the load without such an entry. */
  function staleInstead<T> (entry: CacheEntry | undefined, error: RegistryError, hit: boolean): CachedResult<T> {
    if (entry === undefined) throw error
    return { value: entry.value as T, age: seconds(clock() - entry.at), ttl: 0, hit, error }
  }

  /** Loads a key. When the load fails or takes too long, returns the expired entry, or throws without one. */
  async function load<T> ({ section, key }: CacheKey<T>, loader: Loader): Promise<CachedResult<T | undefined>> {
    counts[section].misses++
    const stale = entries.usable(key)
    const blocked = loader.blocked?.()
    if (blocked !== undefined) return staleInstead(stale, blocked, true)
    const hasStale = stale !== undefined || loader.standIn === true
    const doubt = hasStale ? flights.doubt(loader) : undefined
    const { flight, joined } = flights.start(loader)
    if (joined) counts[section].coalesced++
    if (doubt !== undefined) return staleInstead(stale, doubt, true)
    try {
      const loaded = (await flights.wait(flight, loader, hasStale)).find(found => found.key === key)
      const ttl = loaded?.value === undefined ? options.negative_ttl_seconds : loaded.ttl ?? options.ttl_seconds
      return { value: loaded?.value as T | undefined, age: 0, ttl, hit: false }
    } catch (error) {
      if (!isRegistryError(error)) throw error
      return staleInstead(stale, error, false)
    }
  }

  /**
   * Returns the entry of a key. Loads it when it is missing, expired or older than `maxAge`. When the load fails,
   * returns a usable expired entry with `error`; without one, throws the error of the load.
   */
  async function get<T> (key: CacheKey<T>, loader: Loader): Promise<CachedResult<T | undefined>> {
    const entry = entries.fresh(key, loader.maxAge)
    if (entry !== undefined) {
      use([{ key, loader }])
      return entry
    }
    const absence = entries.rememberedAbsence(key, loader)
    if (absence === undefined) return await load(key, loader)
    counts[key.section].hits++
    return absence
  }

  return {
    /** Configured times in seconds. */
    times: {
      ttl: options.ttl_seconds,
      staleIfError: options.stale_if_error_seconds,
      negativeTtl: options.negative_ttl_seconds,
      budget: budget / 1000
    },

    /** Returns the time of the cache's clock in milliseconds. */
    now: clock,

    read: entries.read,
    peek: entries.peek,
    fresh: entries.fresh,
    freshAll: entries.freshAll,
    restore: entries.restore,
    amend: entries.amend,
    absentFor: entries.absentFor,
    use,
    refresh,
    get,

    /**
     * Returns the error of a read without a usable entry that does not wait for a load; undefined for a read that
     * waits.
     */
    refusal: (loader: Loader): RegistryError | undefined =>
      loader.blocked?.() ?? (loader.standIn === true ? flights.doubt(loader) : undefined),

    /**
     * Content that never changes under its key. Its size is limited in bytes, and it is not part of the sections and
     * their statistics.
     */
    immutable: {
      get: (key: string): Buffer | undefined => immutable.get(key),
      set: (key: string, bytes: Buffer): void => { immutable.set(key, bytes) }
    },

    /** Returns the counters of each section since the start, and its current number of entries. */
    statistics: (): Readonly<Record<CacheSection, Readonly<Counts>>> => counts
  }
}
export type Cache = ReturnType<typeof createCache>
