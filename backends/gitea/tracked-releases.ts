import { isRefusal, isRegistryError, type RegistryError } from '../../lib/errors.ts'
import type { GiteaRepository } from '../../schemas/gitea.ts'
import type { Release, Skip } from '../driver/driver.ts'
import type { FailFast } from '../driver/fail-fast.ts'
import type { ExtensionMatch } from '../driver/mapping.ts'
import { currentRelease } from '../driver/version.ts'
import type { Candidate } from './candidates.ts'
import type { ChangeTracker } from './change-tracker.ts'
import type { Releases } from './releases.ts'

/**
 * Result of a crawl for one repository: its current release, or the error that prevented reading it. A repository
 * without either has no release. Of a malformed repository only the name is known.
 */
export interface RepositoryResult {
  repository?: GiteaRepository
  extension: ExtensionMatch
  release?: Release
  error?: RegistryError
  /** Whether the error is that the upstream refuses the releases of this repository. */
  refused?: boolean
}

/** Result for a repository that is well formed. */
export type CandidateResult = RepositoryResult & Candidate

/** Creates the reader of releases that records in the change tracker the current release of each repository. */
export function createTrackedReleases (releases: Releases, tracker: ChangeTracker) {
  /** Records the result of a read at `at`. A result that was not settled is read again by the next crawl. */
  function record ({ repository }: Candidate, release: Release | undefined, settled: boolean, at: number): void {
    if (settled) tracker.remember(repository, release, at)
    else tracker.forget(repository.name)
  }

  /** Returns the versions of a repository, highest first. Throws the errors of `Releases.read`. */
  async function versions (candidate: Candidate, skip: Skip): Promise<Release[]> {
    const at = tracker.now()
    const { versions, settled } = await releases.read(candidate, skip)
    record(candidate, currentRelease(versions), settled, at)
    return versions
  }

  /** Returns the current release of a repository with its checksum, or the error. */
  async function current (candidate: Candidate, failFast: FailFast, skip: Skip): Promise<CandidateResult> {
    const at = tracker.now()
    let hasVersions = false
    try {
      const { versions, settled } = await failFast(async () => await releases.read(candidate, skip))
      hasVersions = true
      const release = currentRelease(versions)
      const found = release === undefined
        ? undefined
        : await failFast(async () => await releases.withChecksum(candidate, release, skip))
      record(candidate, found?.release, settled && found?.settled !== false, at)
      return found === undefined ? candidate : { ...candidate, release: found.release }
    } catch (error) {
      if (!isRegistryError(error)) throw error
      tracker.forget(candidate.repository.name)
      // A refused checksum file counts as a failure, since a login page may be served in its place for a short time.
      return { ...candidate, error, refused: !hasVersions && isRefusal(error) }
    }
  }

  /** Adds the checksum to a result whose release was read, or remembered, without it. */
  async function withChecksum (result: CandidateResult, failFast: FailFast, skip: Skip): Promise<CandidateResult> {
    const { repository, extension, release } = result
    if (release?.file?.checksumLocator === undefined) return result
    const at = tracker.now()
    try {
      const found = await failFast(async () => await releases.withChecksum(result, release, skip))
      record(result, found.release, found.settled, at)
      return { ...result, release: found.release }
    } catch (error) {
      if (!isRegistryError(error)) throw error
      tracker.forget(repository.name)
      return { repository, extension, error }
    }
  }

  return { versions, current, withChecksum }
}
export type TrackedReleases = ReturnType<typeof createTrackedReleases>
