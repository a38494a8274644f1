import type { GiteaRepository } from '../../schemas/gitea.ts'
import type { Release } from '../driver/driver.ts'
import { createReadSchedule, type ReadScheduleOptions } from '../driver/read-schedule.ts'

export type ChangeTrackerOptions = Pick<
  ReadScheduleOptions<RowState>,
  'reconcileSeconds' | 'clock' | 'wallClock'
>

/** The fields of a repository's row in a listing that change with its releases. */
interface RowState { id: number | undefined, owner: string, counter: number, updated: string }

/** Current release of a repository when it was last read; undefined when it had no release. */
export interface LastRelease { release: Release | undefined }

function rowState (
  { id, owner, release_counter: counter, updated_at: updated }: GiteaRepository
): RowState | undefined {
  return counter === undefined || typeof updated !== 'string' ? undefined : { id, owner: owner.login, counter, updated }
}

const isSame = (a: RowState | undefined, b: RowState | undefined): boolean =>
  a !== undefined && b !== undefined && a.id === b.id && a.owner === b.owner && a.counter === b.counter &&
  a.updated === b.updated

/**
 * Remembers the last result of each repository, so that a crawl reads only repositories that may have changed.
 *
 * A published and a deleted release change `release_counter` in the listing, a pushed tag changes `updated_at`. Neither
 * changes when a release is edited, a file is replaced, or one release is deleted and another published between two
 * crawls. Therefore each crawl reads a changed repository for one hour more, and a part of all others, so that each is
 * read within `reconcileSeconds`.
 */
export function createChangeTracker (options: ChangeTrackerOptions) {
  const schedule = createReadSchedule<RowState, Release>({
    ...options,
    isSame,
    // A repository without releases has nothing to read.
    isEmpty: state => state?.counter === 0
  })
  const listed = (row: GiteaRepository) => ({ name: row.name, state: rowState(row), updatedAt: row.updated_at })

  return {
    now: schedule.now,

    /**
     * Returns the last results of the repositories that a crawl need not read again, by the repository's name. Each
     * call counts as one crawl.
     */
    unchanged (rows: readonly GiteaRepository[]): Map<string, LastRelease> {
      const { unchanged } = schedule.plan(rows.map(listed))
      return new Map([...unchanged].map(([name, { result }]) => [name, { release: result }]))
    },

    /** Remembers the result of a read at `at`; an older result does not replace a newer one. */
    remember (row: GiteaRepository, release: Release | undefined, at: number): void {
      const repository = listed(row)
      // Without these fields a change cannot be seen: each crawl reads the repository.
      if (repository.state === undefined) {
        if (schedule.readSince(row.name, at + 1) === undefined) schedule.forget(row.name)
      } else schedule.remember(repository, release, at, { publishedAt: release?.published_at })
    },

    /**
     * Returns the result of a read of a repository since `startedAt`, by a crawl or by a request. Returns undefined
     * when it was not read, or could not be read.
     */
    readSince (name: string, startedAt: number): LastRelease | undefined {
      const last = schedule.readSince(name, startedAt)
      return last === undefined ? undefined : { release: last.result }
    },

    forget: schedule.forget,
    retain: schedule.retain,

    /** Number of remembered repositories. */
    get size () { return schedule.size }
  }
}
export type ChangeTracker = ReturnType<typeof createChangeTracker>
