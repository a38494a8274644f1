import { createRequire } from 'node:module'
import { LRUCache } from 'lru-cache'
import type * as mnemonist from 'mnemonist'
import { isRegistryError, type RegistryError } from '../../lib/errors.ts'
import type { CachedResult } from '../../lib/result.ts'
import type { CacheConfig } from '../../schemas/config.ts'
import { createFlights, type CacheKey, type CacheSection, type LoadedEntry, type Loader } from './loads.ts'

export { cacheSections, type CacheKey, type CacheSection, type LoadedEntry, type Loader } from './loads.ts'

// Loads single modules, which mnemonist offers only as CommonJS, because the whole package has fifty files.
const require = createRequire(import.meta.url)
const LRUMap = require('mnemonist/lru-map') as typeof mnemonist.LRUMap
const LRUMapWithDelete = require('mnemonist/lru-map-with-delete') as typeof mnemonist.LRUMapWithDelete

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

interface CacheEntry { section: CacheSection, value: unknown, at: number, ttl: number }

/** Counters of one section since the start, and its current number of entries. */
interface Counts { hits: number, misses: number, coalesced: number, evictions: number, entries: number }

/**
 * Maximum number of absences. They are separate from entries, so that a client that probes names cannot evict an entry.
 */
const maxAbsences = 1000

const noCounts = (): Counts => ({ hits: 0, misses: 0, coalesced: 0, evictions: 0, entries: 0 })

const seconds = (milliseconds: number): number => Math.max(0, milliseconds / 1000)

/**
 * Creates the entries of the cache: an LRU of three sections that share one capacity, and a separate LRU of absences.
 * It counts entries and evictions.
 */
function createCacheEntries (options: CacheConfig & Required<Pick<CacheOptions, 'clock'>>) {
  const { clock } = options
  const staleIfErrorMs = options.stale_if_error_seconds * 1000
  const negativeTtlMs = options.negative_ttl_seconds * 1000
  const entries = new LRUMapWithDelete<string, CacheEntry>(options.capacity)
  const absences = new LRUMap<string, number>(maxAbsences)
  const counts: Record<CacheSection, Counts> = { list: noCounts(), metadata: noCounts(), versions: noCounts() }

  function remove (key: string): void {
    const removed = entries.peek(key)
    if (removed === undefined) return
    entries.delete(key)
    counts[removed.section].entries--
  }

  function keep (
    { section, key, value, ttl = options.ttl_seconds }: LoadedEntry,
    life = { at: clock(), ttl: ttl * 1000 }
  ): void {
    if (value === undefined) {
      remove(key)
      absences.set(key, clock())
      return
    }
    if (absences.has(key)) absences.set(key, -Infinity)
    const replaced = entries.setpop(key, { section, value, ...life })
    if (replaced === null || replaced === undefined) counts[section].entries++
    else if (replaced.evicted) {
      counts[section].entries++
      counts[replaced.value.section].entries--
      counts[replaced.value.section].evictions++
    }
  }

  /** Returns the entry of a key if it may be used while its load fails. The order of eviction does not change. */
  function usable (key: string): CacheEntry | undefined {
    const entry = entries.peek(key)
    return entry !== undefined && clock() - entry.at <= entry.ttl + staleIfErrorMs ? entry : undefined
  }

  /**
   * Returns the entry of a key, fresh or expired, if it may be used while its load fails. It counts nothing and loads
   * nothing, but the entry becomes the most recently used one.
   */
  function read<T> ({ key }: CacheKey<T>): { value: T, age: number, ttl: number, fresh: boolean } | undefined {
    const entry = entries.get(key)
    if (entry === undefined) return undefined
    const age = clock() - entry.at
    if (age > entry.ttl + staleIfErrorMs) return undefined
    return { value: entry.value as T, age: seconds(age), ttl: seconds(entry.ttl - age), fresh: age <= entry.ttl }
  }

  /** Returns the entry of a key at any age. The order of eviction does not change. */
  function peek<T> ({ key }: CacheKey<T>): { value: T, age: number } | undefined {
    const entry = entries.peek(key)
    return entry === undefined ? undefined : { value: entry.value as T, age: seconds(clock() - entry.at) }
  }

  /**
   * Returns the entry of a key if it is fresh and not older than `maxAge` seconds; else undefined. The entry becomes
   * the most recently used one. A hit is counted by `use`, when the entry is returned to a client.
   */
  function fresh<T> ({ key }: CacheKey<T>, maxAge = Infinity): CachedResult<T> | undefined {
    const entry = entries.get(key)
    if (entry === undefined) return undefined
    const age = clock() - entry.at
    if (age > entry.ttl || age > maxAge * 1000) return undefined
    return { value: entry.value as T, age: seconds(age), ttl: seconds(entry.ttl - age), hit: true }
  }

  /** Returns the absence of a key if it has not expired and is not too old for the loader. */
  function rememberedAbsence ({ key }: CacheKey<unknown>, loader: Loader): CachedResult<undefined> | undefined {
    const { maxAge = Infinity, maxAbsence = Infinity } = loader
    const since = entries.peek(key) === undefined ? absences.get(key) : undefined
    if (since === undefined) return undefined
    const age = clock() - since
    if (age > negativeTtlMs || age > maxAge * 1000 || age > maxAbsence * 1000) return undefined
    return { value: undefined, age: seconds(age), ttl: seconds(negativeTtlMs - age), hit: true }
  }

  /** Stores an entry that was loaded at the time `at` of the cache's clock. The entry is already expired. */
  function restore ({ section, key, value }: LoadedEntry, at: number): void {
    keep({ section, key, value }, { at, ttl: -1 })
  }

  /** Replaces the value of an entry if it is still `before`. Its age and its time to live do not change. */
  function amend<T> ({ key }: CacheKey<T>, before: T, after: T): void {
    const entry = entries.peek(key)
    if (entry !== undefined && entry.value === before) entry.value = after
  }

  /** Returns the seconds since a key was proven absent; undefined when this is unknown or has expired. */
  function absentFor ({ key }: CacheKey<unknown>): number | undefined {
    const since = entries.peek(key) === undefined ? absences.peek(key) : undefined
    const age = since === undefined ? Infinity : clock() - since
    return age <= negativeTtlMs ? seconds(age) : undefined
  }

  /** Returns the age of an entry and its time to live, in milliseconds. The order of eviction does not change. */
  function lifeOf (key: string): { age: number, ttl: number } | undefined {
    const entry = entries.peek(key)
    return entry === undefined ? undefined : { age: clock() - entry.at, ttl: entry.ttl }
  }

  return { absentFor, amend, counts, fresh, keep, lifeOf, peek, read, rememberedAbsence, restore, usable }
}
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

  /**
   * Loads an entry in the background when its age exceeds `refreshAhead` of its time to live, or `maxAge` of the
   * loader.
   */
  function refresh ({ key }: CacheKey<unknown>, loader: Loader): void {
    const { age, ttl } = entries.lifeOf(key) ?? { age: Infinity, ttl: 0 }
    const youngMs = Math.min(ttl * refreshAhead, (loader.maxAge ?? Infinity) * 1000)
    if (age > youngMs && loader.blocked?.() === undefined) flights.start(loader)
  }

  /** Counts a hit of each entry, and refreshes an entry that expires soon. */
  function use (uses: readonly CacheUse[]): void {
    for (const { key, loader } of uses) {
      counts[key.section].hits++
      if (entries.peek(key) !== undefined) refresh(key, loader)
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
