import { createRequire } from 'node:module'
import type * as mnemonist from 'mnemonist'
import { late, untilAborted, withDeadline } from '../../lib/deadline.ts'
import { isRegistryError, type RegistryError } from '../../lib/errors.ts'

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
  /**
   * Name of the load that reads the same data and more, if there is one. A failure or slowness of one of them makes the
   * other doubtful, too.
   */
  subject?: string
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

// Loads a single module, which mnemonist offers only as CommonJS, because the whole package has fifty files.
const require = createRequire(import.meta.url)
const LRUMapWithDelete = require('mnemonist/lru-map-with-delete') as typeof mnemonist.LRUMapWithDelete

/** A load in progress, and its start in milliseconds of the cache's clock. */
export interface Flight { loaded: Promise<LoadedEntry[]>, since: number }

export interface FlightsDependencies {
  clock: () => number
  /** Maximum milliseconds from the start of a load for which a caller waits. */
  maxWaitMs: number
  /** Maximum milliseconds of the wait when the caller has an older result. */
  maxStaleWaitMs: number
  /** Stores one result of a load. */
  keep: (entry: LoadedEntry) => void
}

/** Maximum number of stored failures. */
const maxFailures = 1000
/**
 * Milliseconds for which a failure is stored. During this time a caller with an older result does not wait for the next
 * load.
 */
const failureMemoryMs = 120_000

/**
 * Creates the loads of a cache. One load of each name runs at a time; it is shared by its callers and independent of
 * them.
 */
export function createFlights ({ clock, maxWaitMs, maxStaleWaitMs, keep }: FlightsDependencies) {
  const flights = new Map<string, Flight>()
  const failures = new LRUMapWithDelete<string, { error: RegistryError, at: number }>(maxFailures)

  async function run ({ flight, subject = flight, load }: Loader): Promise<LoadedEntry[]> {
    try {
      // `load` starts in a later turn, so that its error never reaches the caller that starts it.
      const found = await Promise.resolve().then(load)
      failures.delete(subject)
      for (const entry of found) keep(entry)
      return found
    } catch (error) {
      if (isRegistryError(error)) failures.set(subject, { error, at: clock() })
      throw error
    } finally {
      flights.delete(flight)
    }
  }

  return {
    /** Starts a load, or joins the one in progress. */
    start (loader: Loader): { flight: Flight, joined: boolean } {
      const current = flights.get(loader.flight)
      if (current !== undefined) return { flight: current, joined: true }
      const flight = { loaded: run(loader), since: clock() }
      flights.set(loader.flight, flight)
      // Prevents an unhandled rejection when no caller waits for the load.
      flight.loaded.catch(() => {})
      return { flight, joined: false }
    },

    /**
     * Returns the reason why a caller with an older result does not wait: a load failed recently, or takes too long.
     */
    doubt ({ flight: name, subject = name, instance }: Loader): RegistryError | undefined {
      const failed = failures.peek(subject)
      if (failed !== undefined && clock() - failed.at <= failureMemoryMs) return failed.error
      const isSlow = [name, subject].some(of => clock() - (flights.get(of)?.since ?? Infinity) > maxStaleWaitMs)
      return isSlow ? late(instance) : undefined
    },

    /**
     * Returns the result of a load, or throws its error. Throws `late` when it takes too long, and the reason of the
     * caller's signal when that is aborted. With `hasStale` the caller has an older result and waits for a shorter
     * time.
     */
    async wait (
      { loaded, since }: Flight,
      { instance, signal }: Loader,
      hasStale: boolean
    ): Promise<LoadedEntry[]> {
      const waitMs = hasStale ? Math.min(maxWaitMs, maxStaleWaitMs) : maxWaitMs
      return await withDeadline(
        waitMs - (clock() - since),
        () => late(instance),
        async deadline => await untilAborted(loaded, deadline),
        signal
      )
    }
  }
}
export type Flights = ReturnType<typeof createFlights>
