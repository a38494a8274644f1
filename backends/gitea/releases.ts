import { statusError } from '../../plugins/upstream/errors.ts'
import type { GiteaRelease, GiteaRepository } from '../../schemas/gitea.ts'
import type { Release, Skip, Skipped } from '../driver/driver.ts'
import { currentRelease, orderReleases, tagsByVersion, utcSeconds } from '../driver/version.ts'
import { textField, type GiteaApi } from './api.ts'
import { isPrivate, releaseRef, type Candidate } from './candidates.ts'
import type { Checksums } from './checksums.ts'
import { tooLargeRow } from './pages.ts'
import type { PlatformFile, ReleaseFiles } from './release-files.ts'
import { isRefusal, isRegistryError, type RegistryError } from '../../lib/errors.ts'
import type { FailFast } from '../driver/fail-fast.ts'
import type { ExtensionMatch } from '../driver/mapping.ts'
import type { ChangeTracker } from './change-tracker.ts'

/** The versions of a repository, highest first; `settled` when each of its releases could be read. */
export interface RepositoryVersions { versions: Release[], settled: boolean }

/** Creates the reader of the releases of a repository. */
export function createReleases (
  api: GiteaApi,
  { instance, checksums, files }: { instance: string, checksums: Checksums, files: ReleaseFiles }
) {
  /** Returns the versions of a repository. Throws when it cannot be read, or when its releases are refused. */
  async function read (candidate: Candidate, skip: Skip): Promise<RepositoryVersions> {
    if (!isPrivate(candidate.repository)) return await readReleases(candidate, skip)
    // Only the shown versions make the name of a private repository public: without a version it stays hidden.
    const allSkipped: Skipped[] = []
    let isShown = false
    try {
      const result = await readReleases(candidate, skipped => { allSkipped.push(skipped) })
      isShown = result.versions.length > 0
      return result
    } finally {
      for (const skipped of allSkipped) skip(isShown ? skipped : { ...skipped, hidden: true })
    }
  }

  async function readReleases (candidate: Candidate, skip: Skip): Promise<RepositoryVersions> {
    const { repository } = candidate
    const releases = repository.release_counter === 0
      ? { found: [], whole: true }
      : await api.releases(repository.name, row => {
        const tag = textField(row, 'tag_name')
        skip({
          kind: 'release',
          reason: row === tooLargeRow ? 'too_large' : 'malformed',
          ...releaseRef(candidate),
          ...(tag !== undefined && { tag })
        })
      })
    if (releases === undefined) {
      // The repository itself still exists: its releases are refused to these credentials.
      if (await api.repository(repository.name) !== undefined) throw statusError(instance, 403)
      return { versions: [], settled: false }
    }
    const { versions, whole } = versionsOf(candidate, releases.found, skip)
    const settled = whole && releases.whole
    // An unreadable release may be a version: this is not an absence.
    if (versions.length === 0 && !settled) throw api.unexpected('Response has an unexpected structure')
    return { versions, settled }
  }

  /** Returns the versions of published releases, highest first; `whole` when each release could be read. */
  function versionsOf (
    candidate: Candidate,
    releases: readonly GiteaRelease[],
    skip: Skip
  ): { versions: Release[], whole: boolean } {
    const repositoryRef = releaseRef(candidate)
    const byTag = new Map(releases.map(release => [release.tag_name, release]))
    const tags = tagsByVersion(byTag.keys(), tag => {
      skip({ kind: 'tag', reason: 'not_semver', ...repositoryRef, tag })
    })
    let whole = true
    const firstPlatforms = new Map<string, PlatformFile>()
    const versions = orderReleases([...tags].flatMap(([version, tag]): Release[] => {
      const release = byTag.get(tag)
      const published = utcSeconds(release?.published_at ?? undefined) ?? utcSeconds(release?.created_at ?? undefined)
      const ref = { ...repositoryRef, version, tag }
      if (release === undefined || published === undefined) {
        skip({ kind: 'release', reason: 'malformed', ...ref })
        whole = false
        return []
      }
      const choice = files.choose(candidate, release, ref, skip)
      if (choice === 'other_platform') return []
      const { file, firstPlatform } = choice
      if (firstPlatform !== undefined) firstPlatforms.set(version, firstPlatform)
      return [{
        version,
        published_at: published,
        ...(release.prerelease === true && { prerelease: true }),
        ...(file !== undefined && { file })
      }]
    }))
    const firstPlatform = firstPlatforms.get(currentRelease(versions)?.version ?? '')
    if (firstPlatform !== undefined) files.reportFirstPlatform(candidate, firstPlatform)
    return { versions, whole }
  }

  /** Returns a release with its checksum; `settled` unless the release has changed since it was read. */
  async function withChecksum (
    candidate: Candidate,
    release: Release,
    skip: Skip
  ): Promise<{ release: Release, settled: boolean }> {
    const { file } = release
    if (file?.checksumLocator === undefined) return { release, settled: true }
    const found = await checksums.look(file.checksumLocator, skipped => {
      skip({ ...releaseRef(candidate), version: release.version, ...skipped })
    })
    const { checksumLocator, ...rest } = file
    return { release: { ...release, file: { ...rest, ...found } }, settled: found !== undefined }
  }

  return { read, withChecksum }
}
type Releases = ReturnType<typeof createReleases>

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
