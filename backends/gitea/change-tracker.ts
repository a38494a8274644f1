import { isDeepStrictEqual } from 'node:util'
import { LRUCache } from 'lru-cache'
import type { GiteaRepository } from '../../schemas/gitea.ts'
import type { Release } from '../driver/driver.ts'

export interface ChangeTrackerOptions {
  /** Seconds within which every repository is read again, although no change is visible; 0 to read it in each crawl. */
  reconcileSeconds: number
  /** Returns the milliseconds of a monotonic clock. */
  clock: () => number
  /** Returns the milliseconds since the epoch; `Date.now` if unset. */
  wallClock?: () => number
}

/** The fields of a repository's row in a listing that change with its releases. */
interface RowState { id: number | undefined, owner: string, counter: number, updated: string }

/** Current release of a repository when it was last read; undefined when it had no release. */
export interface LastRelease { release: Release | undefined }

interface TrackedRepository extends LastRelease {
  row: RowState
  /** Time at which it was read, in milliseconds of the clock. */
  at: number
  /** Time until which each crawl reads it, in milliseconds of the clock. */
  activeUntil: number
}

/** Maximum number of repositories that are remembered: as many as a listing can have. */
const maxRemembered = 20_000
/** Milliseconds after a change in which files may still be added to a release, which no row of a listing shows. */
const activeMs = 3_600_000

function rowState (
  { id, owner, release_counter: counter, updated_at: updated }: GiteaRepository
): RowState | undefined {
  return counter === undefined || typeof updated !== 'string' ? undefined : { id, owner: owner.login, counter, updated }
}

const isSame = (a: RowState | undefined, b: RowState): boolean =>
  a !== undefined && a.id === b.id && a.owner === b.owner && a.counter === b.counter && a.updated === b.updated

/**
 * Remembers the last result of each repository, so that a crawl reads only repositories that may have changed.
 *
 * A published and a deleted release change `release_counter` in the listing, a pushed tag changes `updated_at`. Neither
 * changes when a release is edited, a file is replaced, or one release is deleted and another published between two
 * crawls. Therefore each crawl reads a changed repository for one hour more, and a part of all others, so that each is
 * read within `reconcileSeconds`.
 */
export function createChangeTracker ({ reconcileSeconds, clock, wallClock = Date.now }: ChangeTrackerOptions) {
  const tracked = new LRUCache<string, TrackedRepository>({ max: maxRemembered })
  const period = reconcileSeconds * 1000
  let lastCrawl: number | undefined
  /** Number of reads that are due for the reconciliation, with the fraction that remains from the last crawl. */
  let due = 0

  const isRecent = (time: unknown): boolean =>
    typeof time === 'string' && Math.abs(wallClock() - Date.parse(time)) < activeMs

  /** Returns whether a repository is still as it was read. */
  function isUnchanged (row: GiteaRepository, last: TrackedRepository, now: number): boolean {
    // A result without a version is not reused for a repository with releases: a 404 depends on it.
    if (last.release === undefined && last.row.counter !== 0) return false
    return isSame(rowState(row), last.row) && now >= last.activeUntil && now - last.at < period
  }

  /** Returns how many of the `available` unchanged repositories this crawl reads for the reconciliation. */
  function reconciliationShare (rows: readonly GiteaRepository[], available: number, now: number): number {
    // The share is computed from all repositories: changed ones, which are read anyway, must not delay the others.
    const withReleases = rows.filter(row => row.release_counter !== 0).length
    due = available === 0
      ? 0
      : Math.min(available, due + withReleases * (now - (lastCrawl ?? now)) / period)
    lastCrawl = now
    const share = Math.floor(due)
    due -= share
    return share
  }

  return {
    now: clock,

    /**
     * Returns the last results of the repositories that a crawl need not read again, by the repository's name. Each
     * call counts as one crawl.
     */
    unchanged (rows: readonly GiteaRepository[]): Map<string, LastRelease> {
      const now = clock()
      const candidates = rows.flatMap(row => {
        const last = tracked.get(row.name)
        return last !== undefined && isUnchanged(row, last, now) ? [{ name: row.name, last }] : []
      })
      // A repository without releases has nothing to read.
      const queue = candidates.filter(({ last }) => last.row.counter !== 0).sort((a, b) => a.last.at - b.last.at)
      const share = reconciliationShare(rows, queue.length, now)
      const reconciled = new Set(queue.slice(0, share).map(({ name }) => name))
      return new Map(candidates.filter(({ name }) => !reconciled.has(name)).map(({ name, last }) => [name, last]))
    },

    /** Remembers the result of a read at `at`; an older result does not replace a newer one. */
    remember (row: GiteaRepository, release: Release | undefined, at: number): void {
      const state = rowState(row)
      const before = tracked.peek(row.name)
      if (before !== undefined && before.at > at) return
      if (state === undefined) {
        tracked.delete(row.name)
        return
      }
      const changed = before === undefined
        ? isRecent(row.updated_at) || isRecent(release?.published_at)
        : !isSame(state, before.row) || !isDeepStrictEqual(release, before.release)
      tracked.set(row.name, {
        row: state,
        release,
        at,
        activeUntil: changed ? at + activeMs : before?.activeUntil ?? -Infinity
      })
    },

    /**
     * Returns the result of a read of a repository since `startedAt`, by a crawl or by a request. Returns undefined
     * when it was not read, or could not be read.
     */
    readSince (name: string, startedAt: number): LastRelease | undefined {
      const last = tracked.peek(name)
      return last !== undefined && last.at >= startedAt ? last : undefined
    },

    /** Forgets one repository: the next crawl reads it. */
    forget (name: string): void { tracked.delete(name) },

    /** Forgets all repositories except those of `names`. */
    retain (names: ReadonlySet<string>): void {
      for (const name of [...tracked.keys()]) if (!names.has(name)) tracked.delete(name)
    },

    /** Number of remembered repositories. */
    get size () { return tracked.size }
  }
}
export type ChangeTracker = ReturnType<typeof createChangeTracker>
