import { isRegistryError } from '../../lib/errors.ts'
import type { Current, Loaded } from '../driver/driver.ts'
import { createReadSchedule, type CrawlPlan, type ReadSchedule } from '../driver/read-schedule.ts'
import { currentRelease } from '../driver/version.ts'
import type { ExtensionRef } from './repositories.ts'
import { showsNoChange, type RepositoryState } from './transport.ts'
import type { Versions } from './versions.ts'

/** The last reads of repositories, by which a crawl reads only a part of them. */
export type OciSchedule = ReadSchedule<RepositoryState, Current>

export interface OciScheduleOptions {
  /** Seconds within which a crawl reads every repository again, although no change is visible; 0 to read all. */
  reconcileSeconds: number
  /** Minimum number of repositories that a crawl reads, if the registry does not list changes. */
  minReads: number
  /** Returns the milliseconds of a monotonic clock. */
  clock: () => number
}

/**
 * Creates the schedule of the reads of a registry. Each crawl reads at least one repository: a registry may have a list
 * of repositories in the configuration only, and a crawl without a request would not notice its failure.
 */
export const createOciSchedule = ({ minReads, ...options }: OciScheduleOptions): OciSchedule =>
  createReadSchedule<RepositoryState, Current>({
    ...options,
    // Repositories without a state are read as in a registry without states.
    minReads: rows => Math.max(1, Math.min(minReads, rows.filter(({ state }) => state === undefined).length)),
    isSame: showsNoChange
  })

/**
 * Returns the maximum age in milliseconds of a tag's digest that a crawl uses without a request. A repository that is
 * due is read completely. Others are read because of a recent change, or because they have no version: for them the
 * list of tags is enough, since a tag that is a version seldom gets another target.
 */
export const maxDigestAgeOf = ({ due }: CrawlPlan<Current>, reconcileSeconds: number) => (repository: string): number =>
  due.has(repository) ? 0 : reconcileSeconds * 1000

/** Creates the reader of versions that records the current version of each repository in the schedule. */
export function createTrackedVersions (versions: Versions, schedule: OciSchedule) {
  /** Runs a read, and records its result. A failed read, or one with damaged content, is repeated by the next crawl. */
  async function tracked<T> (
    repository: string,
    state: RepositoryState | undefined,
    read: () => Promise<T>,
    currentOf: (result: T) => Current | undefined
  ): Promise<T> {
    const at = schedule.now()
    try {
      const result = await read()
      const current = currentOf(result)
      // Names that clients try must not displace the repositories of the list.
      if (current === undefined && state === undefined && !schedule.has(repository)) return result
      if (versions.isDamaged(repository)) schedule.forget(repository)
      else {
        schedule.remember(
          // A request of a client has no state. An earlier state is safe: if it is outdated, the next list differs.
          { name: repository, state: state ?? schedule.stateOf(repository) },
          current,
          at,
          { oldest: Math.min(at, versions.oldestDigest(repository)), publishedAt: current?.release.published_at }
        )
      }
      return result
    } catch (error) {
      if (isRegistryError(error)) schedule.forget(repository)
      throw error
    }
  }

  return {
    /** Returns the current version of a repository, whose `state` is that of the list. See `Versions.current`. */
    current: async (
      repository: string,
      extension: ExtensionRef,
      state?: RepositoryState
    ): Promise<Current | undefined> =>
      await tracked(repository, state, async () => await versions.current(repository, extension), current => current),

    /** Returns all versions of a repository. See `Versions.all`. */
    all: async (repository: string, extension: ExtensionRef): Promise<Loaded | undefined> =>
      await tracked(repository, undefined, async () => await versions.all(repository, extension), loaded => {
        const release = loaded === undefined ? undefined : currentRelease(loaded.releases)
        return loaded === undefined || release === undefined ? undefined : { metadata: loaded.metadata, release }
      })
  }
}
export type TrackedVersions = ReturnType<typeof createTrackedVersions>
