import { isDeepStrictEqual } from 'node:util'
import { LRUCache } from 'lru-cache'

/** A repository in the upstream's list of repositories. */
export interface ListedRepository<S> {
  name: string
  /** Fields of its row that change with its versions; undefined when the list has none. */
  state: S | undefined
  /** Time of its last change, as the upstream states it. */
  updatedAt?: unknown
}

/** Result of the last read of a repository; undefined when it had no version. */
export interface LastRead<T> {
  result: T | undefined
  /** Time of the read, in milliseconds of the clock. */
  at: number
  /** Time of the oldest data in the result, in milliseconds of the clock; at most `at`. */
  oldest: number
}

/** Further facts of a read. */
export interface ReadFacts {
  /** Time of the oldest data that the read used, in milliseconds of the clock; the time of the read if unset. */
  oldest?: number
  /** Time at which the version of the result was published. */
  publishedAt?: string | undefined
}

export interface ReadScheduleOptions<S> {
  /** Seconds within which every repository is read again, although no change is visible; 0 to read it in each crawl. */
  reconcileSeconds: number
  /** Returns the minimum number of unchanged repositories of a list that a crawl reads; 0 if unset. */
  minReads?: (rows: ReadonlyArray<ListedRepository<S>>) => number
  /** Returns whether two rows of a repository show no change. */
  isSame: (a: S | undefined, b: S | undefined) => boolean
  /** Returns whether a repository in this state has nothing to read, so that its last result needs no second read. */
  isEmpty?: (state: S | undefined) => boolean
  /** Returns the milliseconds of a monotonic clock. */
  clock: () => number
  /** Returns the milliseconds since the epoch; `Date.now` if unset. */
  wallClock?: () => number
}

interface ReadRepository<S, T> extends LastRead<T> {
  state: S | undefined
  /** Time until which each crawl reads it, in milliseconds of the clock. */
  activeUntil: number
}

/** Repositories that a crawl does not read, with their last results, and those that it reads from the beginning. */
export interface CrawlPlan<T> {
  unchanged: Map<string, LastRead<T>>
  /** Names of the repositories whose row has changed, or that are due for a read. */
  due: ReadonlySet<string>
}

/** Maximum number of repositories that are remembered: as many as a list of Gitea can have. */
const maxRemembered = 20_000
/** Milliseconds after a change in which a repository may change again without a visible sign. */
const activeMs = 3_600_000

/**
 * Remembers the last result of each repository, so that a crawl reads only repositories that may have changed. A crawl
 * reads each repository whose row in the list has changed. It also reads a changed repository for one hour more, and a
 * part of all others, so that each is read within `reconcileSeconds`.
 */
export function createReadSchedule<S, T> (options: ReadScheduleOptions<S>) {
  const { reconcileSeconds, minReads = () => 0, isSame, isEmpty = () => false, clock, wallClock = Date.now } = options
  const known = new LRUCache<string, ReadRepository<S, T>>({ max: maxRemembered })
  const period = reconcileSeconds * 1000
  let lastCrawl: number | undefined
  /** Number of reads that are due for the reconciliation, with the fraction that remains from the last crawl. */
  let dueReads = 0

  const isRecent = (time: unknown): boolean =>
    typeof time === 'string' && Math.abs(wallClock() - Date.parse(time)) < activeMs

  /**
   * Returns how many of the `available` unchanged repositories this crawl reads for the reconciliation: at least the
   * `overdue` ones.
   */
  function reconciliationShare (
    rows: ReadonlyArray<ListedRepository<S>>,
    { available, overdue }: { available: number, overdue: number },
    now: number
  ): number {
    // The share is computed from all repositories: changed ones, which are read anyway, must not delay the others.
    const readable = rows.filter(({ state }) => !isEmpty(state)).length
    dueReads = available === 0 || period === 0
      ? available
      : Math.min(available, dueReads + readable * (now - (lastCrawl ?? now)) / period)
    lastCrawl = now
    const share = Math.min(available, Math.max(minReads(rows), overdue, Math.floor(dueReads)))
    dueReads = Math.max(0, dueReads - share)
    return share
  }

  const isOverdue = ({ oldest }: LastRead<T>, now: number): boolean => now - oldest >= period

  return {
    now: clock,

    /** Returns the repositories of a list that a crawl need not read again. Each call counts as one crawl. */
    plan (rows: ReadonlyArray<ListedRepository<S>>): CrawlPlan<T> {
      const now = clock()
      const due = new Set<string>()
      const candidates = rows.flatMap(({ name, state }) => {
        const last = known.get(name)
        if (last === undefined) {
          // It is new, or its last read failed: data from before must not be used.
          due.add(name)
          return []
        }
        const isChanged = !isSame(state, last.state)
        // The next row is compared with this one, so that an ignored difference does not hide a later change.
        if (!isChanged) last.state = state ?? last.state
        // A result without a version is not reused for a repository with content: a 404 depends on it.
        const mustRead = isChanged || now < last.activeUntil || (last.result === undefined && !isEmpty(last.state))
        if (isChanged || (mustRead && isOverdue(last, now))) due.add(name)
        return mustRead ? [] : [{ name, last }]
      })
      const queue = candidates.filter(({ last }) => !isEmpty(last.state) || isOverdue(last, now)).sort((a, b) =>
        a.last.oldest - b.last.oldest
      )
      const overdue = queue.filter(({ last }) => isOverdue(last, now)).length
      const share = reconciliationShare(rows, { available: queue.length, overdue }, now)
      for (const { name } of queue.slice(0, share)) due.add(name)
      return { unchanged: new Map(candidates.flatMap(({ name, last }) => due.has(name) ? [] : [[name, last]])), due }
    },

    /** Remembers the result of a read at `at`; an older result does not replace a newer one. */
    remember (
      { name, state, updatedAt }: ListedRepository<S>,
      result: T | undefined,
      at: number,
      { oldest = at, publishedAt }: ReadFacts = {}
    ): void {
      const before = known.peek(name)
      if (before !== undefined && before.at > at) return
      const changed = before === undefined
        ? isRecent(updatedAt) || isRecent(publishedAt)
        : !isSame(state, before.state) || !isDeepStrictEqual(result, before.result)
      known.set(name, {
        state,
        result,
        at,
        oldest,
        activeUntil: changed ? clock() + activeMs : before?.activeUntil ?? -Infinity
      })
    },

    /** Returns whether a repository was read, and not forgotten since. */
    has: (name: string): boolean => known.has(name),

    /** Returns the state that a repository had in the list when it was last read. */
    stateOf: (name: string): S | undefined => known.peek(name)?.state,

    /**
     * Returns the result of a read of a repository since `startedAt`, by a crawl or by a request. Returns undefined
     * when it was not read, or could not be read.
     */
    readSince (name: string, startedAt: number): LastRead<T> | undefined {
      const last = known.peek(name)
      return last !== undefined && last.at >= startedAt ? last : undefined
    },

    /** Forgets one repository: the next crawl reads it. */
    forget (name: string): void { known.delete(name) },

    /** Forgets all repositories except those of `names`. */
    retain (names: ReadonlySet<string>): void {
      for (const name of [...known.keys()]) if (!names.has(name)) known.delete(name)
    },

    /** Number of remembered repositories. */
    get size () { return known.size }
  }
}
export type ReadSchedule<S, T> = ReturnType<typeof createReadSchedule<S, T>>
