import { createRequire } from 'node:module'
import { LRUCache } from 'lru-cache'
import type * as mnemonist from 'mnemonist'
import type { CacheConfig } from '../../schemas/config.ts'
import { isRegistryError, type RegistryError } from '../../lib/errors.ts'
import type { CachedResult } from '../../lib/result.ts'
import { createFlights, type CacheSection, type LoadedEntry, type Loader } from './flights.ts'

export { cacheSections, type CacheSection, type LoadedEntry, type Loader } from './flights.ts'

// One by one, as it can be had by CommonJS alone: the whole of it is fifty files.
const require = createRequire(import.meta.url)
const LRUMap = require('mnemonist/lru-map') as typeof mnemonist.LRUMap
const LRUMapWithDelete = require('mnemonist/lru-map-with-delete') as typeof mnemonist.LRUMapWithDelete

export interface CacheOptions extends CacheConfig {
  /** Milliseconds of a clock that only goes forward. */
  clock?: () => number
  /** Milliseconds after its beginning for which a load is waited for; the load itself continues. */
  budget?: number
  /** The same where an expired entry can be used. */
  staleBudget?: number
}

/** A typed place in the cache, made by `cacheKey`. */
export interface CacheKey<T> { section: CacheSection, key: string, type?: T }

/** A key that was read, and how its entry is loaded again. */
export interface CacheUse<T = unknown> { key: CacheKey<T>, loader: Loader }

interface Entry { section: CacheSection, value: unknown, at: number, ttl: number }
interface Counts { hits: number, misses: number, coalesced: number, evictions: number, entries: number }

/** Absences that are remembered at once. A client that probes names evicts other absences, never an entry. */
const maxAbsences = 1000
/** Bytes of immutable content that are kept. */
const maxImmutableBytes = 64 * 1024 * 1024
/** Part of its time to live after which an entry in use is loaded again in the background. */
const refreshAhead = 0.8
const defaultBudgetMs = 10_000
const defaultStaleBudgetMs = 1000

/** Returns a typed key of the cache. */
export const cacheKey = <T>(section: CacheSection, key: string): CacheKey<T> => ({ section, key })

/** Returns the result of a load for one key; `ttl` is in seconds. */
export const loadedEntry = <T>({ section, key }: CacheKey<T>, value: T | undefined, ttl?: number): LoadedEntry =>
  ttl === undefined ? { section, key, value } : { section, key, value, ttl }

const noCounts = (): Counts => ({ hits: 0, misses: 0, coalesced: 0, evictions: 0, entries: 0 })

const seconds = (milliseconds: number): number => Math.max(0, milliseconds / 1000)

/**
 * Creates an LRU cache with a time to live, over three sections of one capacity. A read comes with its loader: one load
 * of each name runs at a time, independent of its callers. An entry in use is refreshed before it expires. When a load
 * fails, an expired entry is used for `stale_if_error_seconds`, and at once where the load is known to fail or to be
 * slow. Absences are remembered separately, for `negative_ttl_seconds`.
 */
export function createCache (options: CacheOptions) {
  const { clock = () => performance.now(), budget = defaultBudgetMs, staleBudget = defaultStaleBudgetMs } = options
  const staleIfErrorMs = options.stale_if_error_seconds * 1000
  const negativeTtlMs = options.negative_ttl_seconds * 1000
  const entries = new LRUMapWithDelete<string, Entry>(options.capacity)
  const absences = new LRUMap<string, number>(maxAbsences)
  const immutable = new LRUCache<string, Buffer>({
    maxSize: maxImmutableBytes,
    sizeCalculation: bytes => bytes.length + 1
  })
  const counts: Record<CacheSection, Counts> = { list: noCounts(), metadata: noCounts(), versions: noCounts() }
  const flights = createFlights({
    clock,
    maxWaitMs: budget,
    maxStaleWaitMs: staleBudget,
    keep: entry => { keep(entry) }
  })

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

  /** Returns whether an entry may be used while its load fails. */
  const isUsable = (entry: Entry): boolean => clock() - entry.at <= entry.ttl + staleIfErrorMs

  /**
   * Returns the entry of a key, however old as long as it may be used while its load fails. It counts nothing and loads
   * nothing, but it is a use: the entry is not the next one to be evicted.
   */
  function read<T> ({ key }: CacheKey<T>): { value: T, age: number, ttl: number, fresh: boolean } | undefined {
    const entry = entries.get(key)
    if (entry === undefined) return undefined
    const age = clock() - entry.at
    if (age > entry.ttl + staleIfErrorMs) return undefined
    return { value: entry.value as T, age: seconds(age), ttl: seconds(entry.ttl - age), fresh: age <= entry.ttl }
  }

  /** Returns the entry of a key, however old, and changes nothing: the order of eviction stays as it is. */
  function peek<T> ({ key }: CacheKey<T>): { value: T, age: number } | undefined {
    const entry = entries.peek(key)
    return entry === undefined ? undefined : { value: entry.value as T, age: seconds(clock() - entry.at) }
  }

  /**
   * Returns the entry of a key while it is fresh and no older than `maxAge` seconds; undefined otherwise. It is a use,
   * and counts nothing: `use` does, when the entry is returned to a client.
   */
  function fresh<T> ({ key }: CacheKey<T>, maxAge = Infinity): CachedResult<T> | undefined {
    const entry = entries.get(key)
    if (entry === undefined) return undefined
    const age = clock() - entry.at
    if (age > entry.ttl || age > maxAge * 1000) return undefined
    return { value: entry.value as T, age: seconds(age), ttl: seconds(entry.ttl - age), hit: true }
  }

  /** Loads an entry again in the background when it is past `refreshAhead`, or older than `maxAge` of the loader. */
  function refresh ({ key }: CacheKey<unknown>, loader: Loader): void {
    const entry = entries.peek(key)
    const youngMs = Math.min((entry?.ttl ?? 0) * refreshAhead, (loader.maxAge ?? Infinity) * 1000)
    if ((entry === undefined || clock() - entry.at > youngMs) && loader.blocked?.() === undefined) {
      flights.start(loader)
    }
  }

  /** Counts a hit of each entry, and refreshes the entry before it expires. */
  function use (uses: readonly CacheUse[]): void {
    for (const { key, loader } of uses) {
      counts[key.section].hits++
      if (entries.peek(key.key) !== undefined) refresh(key, loader)
    }
  }

  /** Returns the absence of a key while it is remembered, and is young enough for the loader. */
  function rememberedAbsence ({ key }: CacheKey<unknown>, loader: Loader): CachedResult<undefined> | undefined {
    const { maxAge = Infinity, maxAbsence = Infinity } = loader
    const since = entries.peek(key) === undefined ? absences.get(key) : undefined
    if (since === undefined) return undefined
    const age = clock() - since
    if (age > negativeTtlMs || age > maxAge * 1000 || age > maxAbsence * 1000) return undefined
    return { value: undefined, age: seconds(age), ttl: seconds(negativeTtlMs - age), hit: true }
  }

  /** Returns an expired entry in place of a load. Throws the error of the load when there is no such entry. */
  function staleInstead<T> (entry: Entry | undefined, error: RegistryError, hit: boolean): CachedResult<T> {
    if (entry === undefined) throw error
    return { value: entry.value as T, age: seconds(clock() - entry.at), ttl: 0, hit, error }
  }

  /** Loads a key. When the load fails or takes too long, returns the expired entry, or else throws. */
  async function load<T> ({ section, key }: CacheKey<T>, loader: Loader): Promise<CachedResult<T | undefined>> {
    counts[section].misses++
    const entry = entries.peek(key)
    const stale = entry !== undefined && isUsable(entry) ? entry : undefined
    const blocked = loader.blocked?.()
    if (blocked !== undefined) return staleInstead(stale, blocked, true)
    const hasStale = stale !== undefined || loader.standIn === true
    const doubt = hasStale ? flights.doubt(loader) : undefined
    const { flight, joined } = flights.start(loader)
    if (joined) counts[section].coalesced++
    if (doubt !== undefined) return staleInstead(stale, doubt, true)
    try {
      const loaded = (await flights.wait(flight, loader, hasStale)).find(found => found.key === key)
      const ttlMs = loaded?.value === undefined ? negativeTtlMs : (loaded.ttl ?? options.ttl_seconds) * 1000
      return { value: loaded?.value as T | undefined, age: 0, ttl: seconds(ttlMs), hit: false }
    } catch (error) {
      if (!isRegistryError(error)) throw error
      return staleInstead(stale, error, false)
    }
  }

  /**
   * Returns the entry of a key. Loads it when it is not there, no longer fresh or older than `maxAge`. When the load
   * fails, the expired entry is returned with `error`, if it is not too old; else the error of the load is thrown.
   */
  async function get<T> (key: CacheKey<T>, loader: Loader): Promise<CachedResult<T | undefined>> {
    const entry = fresh(key, loader.maxAge)
    if (entry !== undefined) {
      use([{ key, loader }])
      return entry
    }
    const absence = rememberedAbsence(key, loader)
    if (absence === undefined) return await load(key, loader)
    counts[key.section].hits++
    return absence
  }

  return {
    /** The configured times, in seconds. */
    times: {
      ttl: options.ttl_seconds,
      staleIfError: options.stale_if_error_seconds,
      negativeTtl: options.negative_ttl_seconds,
      budget: budget / 1000
    },

    /** Returns the time in milliseconds of the cache's own clock. */
    now: clock,

    read,
    peek,
    fresh,
    use,
    refresh,
    get,

    /** Puts back an entry that was loaded at a time of the cache's clock. It is no longer fresh. */
    restore ({ section, key, value }: LoadedEntry, at: number): void {
      keep({ section, key, value }, { at, ttl: -1 })
    },

    /** Replaces the value of an entry while it is still `before`. Its age and its time to live stay as they are. */
    amend<T> ({ key }: CacheKey<T>, before: T, after: T): void {
      const entry = entries.peek(key)
      if (entry !== undefined && entry.value === before) entry.value = after
    },

    /** Returns the seconds since a key was proven absent, while that is remembered. */
    absentFor ({ key }: CacheKey<unknown>): number | undefined {
      const since = entries.peek(key) === undefined ? absences.peek(key) : undefined
      const age = since === undefined ? Infinity : clock() - since
      return age <= negativeTtlMs ? seconds(age) : undefined
    },

    /** Returns the error of a read without a usable entry that does not wait for a load; undefined when it waits. */
    refusal: (loader: Loader): RegistryError | undefined =>
      loader.blocked?.() ?? (loader.standIn === true ? flights.doubt(loader) : undefined),

    /** Content that never changes under its key, limited in bytes, outside of the sections and their statistics. */
    immutable: {
      get: (key: string): Buffer | undefined => immutable.get(key),
      set: (key: string, bytes: Buffer): void => { immutable.set(key, bytes) }
    },

    /** Returns the counters since the start, and the number of entries now, of each section. */
    statistics: (): Readonly<Record<CacheSection, Readonly<Counts>>> => counts
  }
}
export type Cache = ReturnType<typeof createCache>
