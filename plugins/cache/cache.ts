import { createRequire } from 'node:module'
import { LRUCache } from 'lru-cache'
import type * as mnemonist from 'mnemonist'
import type { CacheConfig } from '../../schemas/config.ts'
import { late, within, type Deadline } from '../../lib/deadline.ts'
import { isRegistryError, type RegistryError } from '../../lib/errors.ts'
import type { CachedResult } from '../../lib/result.ts'

// One by one, as it can be had by CommonJS alone: the whole of it is fifty files.
const require = createRequire(import.meta.url)
const LRUMap = require('mnemonist/lru-map') as typeof mnemonist.LRUMap
const LRUMapWithDelete = require('mnemonist/lru-map-with-delete') as typeof mnemonist.LRUMapWithDelete

export const cacheSections = ['list', 'metadata', 'versions'] as const
export type CacheSection = typeof cacheSections[number]

export interface CacheOptions extends CacheConfig {
  /** Milliseconds of a clock that only goes forward. */
  clock?: () => number
  /** Milliseconds after its beginning that anybody waits for a load; the load itself goes on. */
  budget?: number
  /** The same where an expired entry can stand in. */
  staleBudget?: number
}

/** A typed place in the cache; made by `slot`. */
export interface CacheKey<T> { section: CacheSection, key: string, type?: T }

/** What a load found for one slot: a value, or `undefined` for "proven not there". */
export interface LoadedEntry { section: CacheSection, key: string, value: unknown, ttl?: number }

export interface Loader {
  /** Loads of one name run one at a time, and whoever wants one meanwhile shares it. */
  flight: string
  /** Gives everything that the load found. What it throws is never cached. */
  load: () => Promise<LoadedEntry[]>
  /** Why no load is started now, when the upstream is being left alone; asked before each. */
  blocked?: () => RegistryError | undefined
  /** Seconds: an entry older than this is loaded again, though fresh; negative for any entry at all. */
  maxAge?: number
  /** Seconds: the same for a remembered absence, where something newer contradicts it. */
  maxAbsence?: number
  /** How long the caller waits in all. */
  deadline?: Deadline
  /** Whether the caller has an older answer from elsewhere: then it waits no longer than for its own. */
  standIn?: boolean
  /** The instance that is asked, for what is said when it is late. */
  instance?: string
}

interface Flight { loaded: Promise<LoadedEntry[]>, since: number }

interface Entry { section: CacheSection, value: unknown, at: number, ttl: number }
interface Counts { hits: number, misses: number, coalesced: number, evictions: number, entries: number }

/** Absences remembered at once; probing names can push out other absences, never an entry. */
const maxAbsences = 1000
/** Bytes of immutable content that are kept. */
const maxImmutableBytes = 64 * 1024 * 1024
/** Part of its life after which an entry in use is loaded again, behind the caller. */
const refreshAhead = 0.8
/** Milliseconds for which a load's failure is known: nobody who can have an older answer waits for the next try. */
const failureMemoryMs = 120_000
const defaultBudgetMs = 10_000
const defaultStaleBudgetMs = 1000

/** Makes the typed name of a place in the cache. */
export const cacheKey = <T>(section: CacheSection, key: string): CacheKey<T> => ({ section, key })

/** Makes what a loader returns for a slot. */
export const loadedEntry = <T>({ section, key }: CacheKey<T>, value: T | undefined, ttl?: number): LoadedEntry =>
  ttl === undefined ? { section, key, value } : { section, key, value, ttl }

/**
 * An LRU with TTL over three sections of one capacity. The loader is given with the question: one load per flight at a
 * time, detached from whoever started it. An entry in use is refreshed ahead of expiry; an expired one stands in for a
 * failing load for `stale_if_error_seconds`, and at once where the load is known to fail or to be slow; absences are
 * remembered apart, for `negative_ttl_seconds`.
 */
export function createCache (options: CacheOptions) {
  const { clock = () => performance.now(), budget = defaultBudgetMs, staleBudget = defaultStaleBudgetMs } = options
  const staleIfError = options.stale_if_error_seconds * 1000
  const negativeTtl = options.negative_ttl_seconds * 1000
  const entries = new LRUMapWithDelete<string, Entry>(options.capacity)
  const absences = new LRUMap<string, number>(maxAbsences)
  const immutable = new LRUCache<string, Buffer>({
    maxSize: maxImmutableBytes,
    sizeCalculation: bytes => bytes.length + 1
  })
  const flights = new Map<string, Flight>()
  const failures = new LRUMapWithDelete<string, { error: RegistryError, at: number }>(maxAbsences)
  const counts: Record<CacheSection, Counts> = {
    list: { hits: 0, misses: 0, coalesced: 0, evictions: 0, entries: 0 },
    metadata: { hits: 0, misses: 0, coalesced: 0, evictions: 0, entries: 0 },
    versions: { hits: 0, misses: 0, coalesced: 0, evictions: 0, entries: 0 }
  }

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

  function fly ({ flight, load }: Loader): { flying: Flight, joined: boolean } {
    const underWay = flights.get(flight)
    if (underWay !== undefined) return { flying: underWay, joined: true }
    const loaded = Promise.resolve().then(load).then(found => {
      failures.delete(flight)
      for (const one of found) keep(one)
      return found
    }, (error: unknown) => {
      if (isRegistryError(error)) failures.set(flight, { error, at: clock() })
      throw error
    }).finally(() => flights.delete(flight))
    const flying = { loaded, since: clock() }
    flights.set(flight, flying)
    // Whoever waits sees the failure; when nobody does, it is nobody's.
    loaded.catch(() => {})
    return { flying, joined: false }
  }

  /** Why nobody who has an older answer waits for a load: it failed a moment ago, or has taken too long already. */
  function hopeless ({ flight, instance }: Loader): RegistryError | undefined {
    const failed = failures.peek(flight)
    if (failed !== undefined && clock() - failed.at <= failureMemoryMs) return failed.error
    const flying = flights.get(flight)
    return flying !== undefined && clock() - flying.since > staleBudget ? late(instance) : undefined
  }

  const seconds = (milliseconds: number) => Math.max(0, milliseconds / 1000)
  const oldestOf = ({ maxAge }: Loader) => maxAge === undefined ? Infinity : maxAge * 1000
  const describe = (entry: Entry, age: number) => ({ age: seconds(age), ttl: seconds(entry.ttl - age) })

  return {
    /** The configured times, in seconds. */
    times: {
      ttl: options.ttl_seconds,
      staleIfError: options.stale_if_error_seconds,
      negativeTtl: options.negative_ttl_seconds,
      budget: budget / 1000
    },

    /** Now, in milliseconds of the cache's own clock. */
    now: clock,

    /**
     * What is kept in a slot, however old as long as it may stand in; counts nothing and loads nothing, but is a use:
     * what is looked at is not the first to go.
     */
    read<T> ({ key }: CacheKey<T>): { value: T, age: number, ttl: number, fresh: boolean } | undefined {
      const entry = entries.get(key)
      if (entry === undefined) return undefined
      const age = clock() - entry.at
      if (age > entry.ttl + staleIfError) return undefined
      return { value: entry.value as T, ...describe(entry, age), fresh: age <= entry.ttl }
    },

    /** The same as `peek`, and no use: it leaves the order in which entries go as it is. */
    peek<T> ({ key }: CacheKey<T>): { value: T, age: number } | undefined {
      const entry = entries.peek(key)
      return entry === undefined ? undefined : { value: entry.value as T, age: seconds(clock() - entry.at) }
    },

    /** Puts back what was loaded at a time of the cache's clock, as an entry that is no longer fresh. */
    restore ({ section, key, value }: LoadedEntry, at: number): void {
      keep({ section, key, value }, { at, ttl: -1 })
    },

    /**
     * Replaces the value of a slot, as long as it is still `before`, and leaves its age and its time to live as they
     * are.
     */
    amend<T> ({ key }: CacheKey<T>, before: T, after: T): void {
      const entry = entries.peek(key)
      if (entry !== undefined && entry.value === before) entry.value = after
    },

    /** Seconds since something was proven absent, as long as that is remembered. */
    absentFor ({ key }: CacheKey<unknown>): number | undefined {
      const since = entries.peek(key) === undefined ? absences.peek(key) : undefined
      const age = since === undefined ? Infinity : clock() - since
      return age <= negativeTtl ? seconds(age) : undefined
    },

    /** Why a question that finds nothing usable in its slot would be refused without waiting for a load. */
    refusal: (loader: Loader): RegistryError | undefined =>
      loader.blocked?.() ?? (loader.standIn === true ? hopeless(loader) : undefined),

    /** Loads a slot again, behind the caller, when what is in it is no longer young, or older than `maxAge`. */
    refresh<T> ({ key }: CacheKey<T>, loader: Loader): void {
      const entry = entries.peek(key)
      const young = Math.min((entry?.ttl ?? 0) * refreshAhead, (loader.maxAge ?? Infinity) * 1000)
      if ((entry === undefined || clock() - entry.at > young) && loader.blocked?.() === undefined) fly(loader)
    },

    /**
     * Counts an answer that was taken from a slot with `peek`, and refreshes the slot ahead of expiry as `get` does.
     */
    use<T> (cacheKey: CacheKey<T>, loader: Loader): void {
      counts[cacheKey.section].hits++
      if (entries.peek(cacheKey.key) !== undefined) this.refresh(cacheKey, loader)
    },

    /**
     * What `get` gives without waiting: what is in a slot, fresh and no older than `maxAge`. Else undefined, and it
     * counts nothing.
     */
    fresh<T> ({ section, key }: CacheKey<T>, loader: Loader): CachedResult<T> | undefined {
      const entry = entries.get(key)
      if (entry === undefined) return undefined
      const age = clock() - entry.at
      if (age > entry.ttl || age > oldestOf(loader)) return undefined
      counts[section].hits++
      if (age > entry.ttl * refreshAhead) this.refresh({ section, key }, loader)
      return { value: entry.value as T, age: seconds(age), ttl: seconds(entry.ttl - age), hit: true }
    },

    /**
     * What is in a slot; loads it when it is not there, no longer fresh or older than `maxAge`. When the load fails,
     * the entry stands in with `error` set, if it is not too old; else what the load threw is thrown.
     */
    async get<T> (cacheKey: CacheKey<T>, loader: Loader): Promise<CachedResult<T | undefined>> {
      const fresh = this.fresh(cacheKey, loader)
      if (fresh !== undefined) return fresh
      const { section, key } = cacheKey
      const maxAge = oldestOf(loader)
      const entry = entries.peek(key)
      const age = entry === undefined ? Infinity : clock() - entry.at
      const absentSince = entry === undefined ? absences.get(key) : undefined
      const absence = absentSince === undefined ? Infinity : clock() - absentSince
      if (absence <= negativeTtl && absence <= maxAge && absence <= (loader.maxAbsence ?? Infinity) * 1000) {
        counts[section].hits++
        return { value: undefined, age: seconds(absence), ttl: seconds(negativeTtl - absence), hit: true }
      }
      counts[section].misses++
      const usable = entry !== undefined && age <= entry.ttl + staleIfError
      const blocked = loader.blocked?.()
      if (blocked !== undefined) {
        if (!usable) throw blocked
        return { value: entry.value as T, age: seconds(age), ttl: 0, hit: true, error: blocked }
      }
      const impatient = usable || loader.standIn === true
      const doubt = impatient ? hopeless(loader) : undefined
      const { flying: { loaded, since }, joined } = fly(loader)
      if (joined) counts[section].coalesced++
      if (doubt !== undefined && !usable) throw doubt
      if (usable && doubt !== undefined) {
        return { value: entry.value as T, age: seconds(age), ttl: 0, hit: true, error: doubt }
      }
      const patience = (impatient ? Math.min(budget, staleBudget) : budget) - (clock() - since)
      try {
        const found = (await within(Math.min(patience, loader.deadline?.left() ?? Infinity), loaded, () =>
          late(loader.instance))).find(loadedEntry =>
          loadedEntry.key === key
        )
        const life = found?.value === undefined ? negativeTtl : (found.ttl ?? options.ttl_seconds) * 1000
        return { value: found?.value as T | undefined, age: 0, ttl: seconds(life), hit: false }
      } catch (error) {
        if (!usable || !isRegistryError(error)) throw error
        return { value: entry.value as T, age: seconds(clock() - entry.at), ttl: 0, hit: false, error }
      }
    },

    /** Content that never changes under its key, bounded in bytes; outside the sections and their statistics. */
    immutable: {
      get: (key: string): Buffer | undefined => immutable.get(key),
      set: (key: string, bytes: Buffer): void => { immutable.set(key, bytes) }
    },

    /** Counters since the start, and entries now, of each section. */
    statistics: (): Readonly<Record<CacheSection, Readonly<Counts>>> => counts
  }
}
export type Cache = ReturnType<typeof createCache>
