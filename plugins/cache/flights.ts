import { createRequire } from 'node:module'
import type * as mnemonist from 'mnemonist'
import { late, untilAborted, withDeadline } from '../../lib/deadline.ts'
import { isRegistryError, type RegistryError } from '../../lib/errors.ts'
import type { LoadedEntry, Loader } from './loader.ts'

// One by one, as it can be had by CommonJS alone: the whole of it is fifty files.
const require = createRequire(import.meta.url)
const LRUMapWithDelete = require('mnemonist/lru-map-with-delete') as typeof mnemonist.LRUMapWithDelete

/** A load in progress, and when it began, in milliseconds of the cache's clock. */
export interface Flight { loaded: Promise<LoadedEntry[]>, since: number }

export interface FlightsDependencies {
  clock: () => number
  /** Milliseconds after its beginning for which a load is waited for. */
  maxWaitMs: number
  /** The same where an older result can be used. */
  maxStaleWaitMs: number
  /** Stores one result of a load. */
  keep: (entry: LoadedEntry) => void
}

/** Failures that are remembered at once. */
const maxFailures = 1000
/** Milliseconds for which a failure is remembered: a caller with an older result does not wait for the next load. */
const failureMemoryMs = 120_000

/** Creates the loads of a cache: one at a time of each name, shared by its callers and independent of them. */
export function createFlights ({ clock, maxWaitMs, maxStaleWaitMs, keep }: FlightsDependencies) {
  const flights = new Map<string, Flight>()
  const failures = new LRUMapWithDelete<string, { error: RegistryError, at: number }>(maxFailures)

  async function run ({ flight, load }: Loader): Promise<LoadedEntry[]> {
    try {
      // In a later turn, so that an error of `load` never reaches the caller that starts it.
      const found = await Promise.resolve().then(load)
      failures.delete(flight)
      for (const entry of found) keep(entry)
      return found
    } catch (error) {
      if (isRegistryError(error)) failures.set(flight, { error, at: clock() })
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
      // A failure that no caller waits for is not an unhandled rejection.
      flight.loaded.catch(() => {})
      return { flight, joined: false }
    },

    /** Returns why a caller with an older result does not wait: a load failed a moment ago, or takes too long. */
    doubt ({ flight: name, instance }: Loader): RegistryError | undefined {
      const failed = failures.peek(name)
      if (failed !== undefined && clock() - failed.at <= failureMemoryMs) return failed.error
      const flight = flights.get(name)
      return flight !== undefined && clock() - flight.since > maxStaleWaitMs ? late(instance) : undefined
    },

    /**
     * Returns the result of a load, and throws its error. Throws `late` when it takes too long, or when the signal of
     * the caller is aborted. `hasStale`: whether the caller has an older result.
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
