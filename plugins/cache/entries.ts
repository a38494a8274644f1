import { createRequire } from 'node:module'
import type * as mnemonist from 'mnemonist'
import type { CachedResult } from '../../lib/result.ts'
import type { CacheConfig } from '../../schemas/config.ts'
import type { CacheKey, CacheSection, LoadedEntry, Loader } from './loads.ts'

// Loads single modules, which mnemonist offers only as CommonJS, because the whole package has fifty files.
const require = createRequire(import.meta.url)
const LRUMap = require('mnemonist/lru-map') as typeof mnemonist.LRUMap
const LRUMapWithDelete = require('mnemonist/lru-map-with-delete') as typeof mnemonist.LRUMapWithDelete

/** An entry: its value, when it was loaded (milliseconds of the clock), and its time to live in milliseconds. */
export interface CacheEntry { section: CacheSection, value: unknown, at: number, ttl: number }

/** Counters of one section since the start, and its current number of entries. */
export interface Counts { hits: number, misses: number, coalesced: number, evictions: number, entries: number }

/**
 * Maximum number of absences. They are separate from entries, so that a client that probes names cannot evict an entry.
 */
const maxAbsences = 1000

const noCounts = (): Counts => ({ hits: 0, misses: 0, coalesced: 0, evictions: 0, entries: 0 })

/** Returns milliseconds as seconds, at least 0. */
export const seconds = (milliseconds: number): number => Math.max(0, milliseconds / 1000)

/**
 * Creates the entries of the cache: an LRU of three sections that share one capacity, and a separate LRU of absences.
 * It counts entries and evictions.
 */
export function createCacheEntries (options: CacheConfig & { clock: () => number }) {
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

  /**
   * Returns the entries of several keys as one result, if each of them is fresh; else undefined. Its age is that of the
   * oldest entry, and its time to live the shortest one. It counts and orders like `fresh`.
   */
  function freshAll<T> (keys: ReadonlyArray<CacheKey<T>>): CachedResult<readonly T[]> | undefined {
    const now = clock()
    const value: T[] = []
    let [oldest, shortest] = [0, Infinity]
    for (const { key } of keys) {
      const entry = entries.get(key)
      if (entry === undefined) return undefined
      const age = now - entry.at
      if (age > entry.ttl) return undefined
      oldest = Math.max(oldest, age)
      shortest = Math.min(shortest, entry.ttl - age)
      value.push(entry.value as T)
    }
    return { value, age: seconds(oldest), ttl: seconds(shortest), hit: true }
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

  /**
   * Returns the age of an entry and its time to live at the time `now`, in milliseconds. The order of eviction does not
   * change.
   */
  function lifeOf (key: string, now: number): { age: number, ttl: number } | undefined {
    const entry = entries.peek(key)
    return entry === undefined ? undefined : { age: now - entry.at, ttl: entry.ttl }
  }

  return { absentFor, amend, counts, fresh, freshAll, keep, lifeOf, peek, read, rememberedAbsence, restore, usable }
}
