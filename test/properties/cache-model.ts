/*
 * Model of the cache in its simplest form: the entries in order of use, and the waiting callers. It is independent of
 * the implementation in `plugins/cache/cache.ts`.
 */

export const times = { ttl: 300, stale: 1000, negative: 30 }
export const capacity = 3
export const keys = Array.from({ length: 8 }, (_, at) => at)
/** Returns the flight of a key; one load fills two keys. */
export const flightOf = (key: number): number => Math.floor(key / 2)
export const flights = [...new Set(keys.map(flightOf))]
export const sectionOf = (key: number): 'metadata' | 'versions' => key % 2 === 0 ? 'metadata' : 'versions'

/** Part of its lifetime after which an entry in use is loaded again. */
const refreshAhead = 0.8
/** Maximum seconds between the start of a load and the end of a wait for it. */
export const patience = 60
/** Seconds for which a failure is remembered. */
const failureMemory = 120
const late = 'The upstream did not respond in time'

/** Result of a load for each of its two keys; `fail` throws an error of the table, `crash` any other error. */
export type Outcome = 'fail' | 'crash' | Array<{ present: boolean, ttl?: number }>

export interface UpstreamRequest { key: number, maxAge?: number, maxAbsence?: number }
/** Reply to a caller, with its times in seconds; `error` is the reason for a stale value. */
export type Reply = { value: string | undefined, age: number, ttl: number, hit: boolean, error?: string } | {
  thrown: string
}

interface Entry { value: string, at: number, ttl: number }
interface Waiter { id: number, key: number, standIn?: Entry }

const valueOf = (key: number, load: number): string => `${key}#${load}`
export { valueOf }

export function createModel () {
  let now = 0
  /** Entries by key; the least recently used entry is first. */
  const entries = new Map<number, Entry>()
  const absences = new Map<number, number>()
  const resting = new Set<number>()
  const underWay = new Map<number, { load: number, since: number, waiters: Waiter[] }>()
  const failures = new Map<number, number>()
  let loads = 0
  const counts = {
    metadata: { hits: 0, misses: 0, coalesced: 0, evictions: 0, entries: 0 },
    versions: { hits: 0, misses: 0, coalesced: 0, evictions: 0, entries: 0 }
  }

  function touch (key: number): Entry | undefined {
    const entry = entries.get(key)
    if (entry === undefined) return undefined
    entries.delete(key)
    entries.set(key, entry)
    return entry
  }

  function begin (flight: number): { load: number, since: number, waiters: Waiter[] } {
    const running = underWay.get(flight)
    if (running !== undefined) return running
    const begun = { load: loads++, since: now, waiters: [] }
    underWay.set(flight, begun)
    return begun
  }

  function keep (key: number, value: string | undefined, ttl: number): void {
    if (value === undefined) {
      entries.delete(key)
      absences.set(key, now)
      return
    }
    absences.delete(key)
    const [oldest] = entries.keys()
    if (!entries.has(key) && entries.size === capacity && oldest !== undefined) {
      entries.delete(oldest)
      counts[sectionOf(oldest)].evictions++
    }
    entries.delete(key)
    entries.set(key, { value, at: now, ttl })
  }

  /** Returns the reason why a caller with a stale entry does not wait for a load. */
  function hopeless (flight: number): string | undefined {
    if (now - (failures.get(flight) ?? -Infinity) <= failureMemory) return 'fail'
    return now - (underWay.get(flight)?.since ?? Infinity) > patience ? late : undefined
  }

  const left = (seconds: number) => Math.max(0, seconds)

  return {
    forward (seconds: number): void { now += seconds },
    rest (flight: number, on: boolean): void { if (on) resting.add(flight); else resting.delete(flight) },

    /** Returns the immediate reply; undefined if the caller waits, as `id`. */
    get ({ key, maxAge = Infinity, maxAbsence = Infinity }: UpstreamRequest, id: number): Reply | undefined {
      const flight = flightOf(key)
      const count = counts[sectionOf(key)]
      const entry = touch(key)
      const age = entry === undefined ? Infinity : now - entry.at
      if (entry !== undefined && age <= entry.ttl && age <= maxAge) {
        this.use(key)
        return { value: entry.value, age, ttl: left(entry.ttl - age), hit: true }
      }
      const absence = entry === undefined ? now - (absences.get(key) ?? -Infinity) : Infinity
      if (absence <= Math.min(times.negative, maxAge, maxAbsence)) {
        count.hits++
        return { value: undefined, age: absence, ttl: left(times.negative - absence), hit: true }
      }
      count.misses++
      const standIn = entry !== undefined && age <= entry.ttl + times.stale ? entry : undefined
      if (resting.has(flight)) {
        return standIn === undefined
          ? { thrown: 'resting' }
          : { value: standIn.value, age, ttl: 0, hit: true, error: 'resting' }
      }
      const doubt = standIn === undefined ? undefined : hopeless(flight)
      if (underWay.has(flight)) count.coalesced++
      const { since, waiters } = begin(flight)
      if (standIn !== undefined && doubt !== undefined) {
        return { value: standIn.value, age, ttl: 0, hit: true, error: doubt }
      }
      if (now - since >= patience) {
        return standIn === undefined
          ? { thrown: late }
          : { value: standIn.value, age, ttl: 0, hit: false, error: late }
      }
      waiters.push({ id, key, ...(standIn !== undefined && { standIn }) })
      return undefined
    },

    /** Counts a hit of an entry, and refreshes the entry before it expires. */
    use (key: number): void {
      counts[sectionOf(key)].hits++
      const entry = entries.get(key)
      if (entry !== undefined && now - entry.at > entry.ttl * refreshAhead && !resting.has(flightOf(key))) {
        begin(flightOf(key))
      }
    },

    peek (key: number): { value: string, age: number, ttl: number, fresh: boolean } | undefined {
      const entry = touch(key)
      if (entry === undefined) return undefined
      const age = now - entry.at
      return age > entry.ttl + times.stale
        ? undefined
        : { value: entry.value, age, ttl: left(entry.ttl - age), fresh: age <= entry.ttl }
    },

    absentFor (key: number): number | undefined {
      const age = entries.has(key) ? Infinity : now - (absences.get(key) ?? -Infinity)
      return age <= times.negative ? age : undefined
    },

    isUnderWay: (flight: number): boolean => underWay.has(flight),

    /** Ends a load; returns the reply to each caller that waited for it. */
    finish (flight: number, outcome: Outcome): Map<number, Reply> {
      const { load, waiters } = begin(flight)
      underWay.delete(flight)
      if (outcome === 'fail') failures.set(flight, now)
      else if (outcome !== 'crash') failures.delete(flight)
      if (typeof outcome === 'string') {
        return new Map(waiters.map(({ id, standIn }) => [id, standIn !== undefined && outcome === 'fail'
          ? { value: standIn.value, age: now - standIn.at, ttl: 0, hit: false, error: 'fail' }
          : { thrown: outcome }]))
      }
      const found = outcome.map(({ present, ttl = times.ttl }, at) => ({
        key: flight * 2 + at,
        ttl,
        value: present ? valueOf(flight * 2 + at, load) : undefined
      }))
      for (const { key, value, ttl } of found) keep(key, value, ttl)
      return new Map(waiters.map(({ id, key }) => {
        const own = found.find(finding => finding.key === key)
        return [id, { value: own?.value, age: 0, ttl: own?.value === undefined ? times.negative : own.ttl, hit: false }]
      }))
    },

    /** Returns the number of started loads. */
    loads: () => loads,
    statistics () {
      for (const section of ['metadata', 'versions'] as const) {
        counts[section].entries = [...entries.keys()].filter(key => sectionOf(key) === section).length
      }
      return counts
    }
  }
}
export type Model = ReturnType<typeof createModel>
