import { statusError } from '../../plugins/upstream/errors.ts'
import type { GiteaRelease } from '../../schemas/gitea.ts'
import type { Release, Skip, Skipped } from '../driver/driver.ts'
import { currentRelease, orderReleases, tagsByVersion, utcSeconds } from '../driver/version.ts'
import { textField, type GiteaApi } from './api.ts'
import { isPrivate, releaseRef, type Candidate } from './candidates.ts'
import type { Checksums } from './checksums.ts'
import { tooLargeRow } from './pages.ts'
import type { PlatformFile, ReleaseFiles } from './release-files.ts'

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
export type Releases = ReturnType<typeof createReleases>
