import { LRUCache } from 'lru-cache'
import pLimit from 'p-limit'
import { isRefusal, isRegistryError, registryError, type RegistryError } from '../../lib/errors.ts'
import { statusError } from '../../plugins/upstream/errors.ts'
import type { GiteaAsset, GiteaRelease, GiteaRepository } from '../../schemas/gitea.ts'
import { safeFileName } from '../driver/file-name.ts'
import {
  ignoreSkips,
  type Crawl,
  type Driver,
  type FileReference,
  type Loaded,
  type Metadata,
  type Release,
  type Skip,
  type Skipped,
  type SkipReason
} from '../driver/driver.ts'
import { createFailFast, type FailFast } from '../driver/fail-fast.ts'
import type { Identity, RepositoryMapping } from '../driver/mapping.ts'
import { forEachYielding } from '../../lib/yielding.ts'
import { describePlatform, parsePlatform } from '../driver/platform.ts'
import { maxDescription, plainTags, plainText } from '../driver/text.ts'
import { currentRelease, orderReleases, tagsByVersion, utcSeconds } from '../driver/version.ts'
import { textField, type GiteaApi } from './api.ts'
import { usableAssets, type Checksums, type Place } from './checksums.ts'
import { tooLargeRow } from './pages.ts'
import { chooseFile } from './choose-file.ts'
import { createChangeTracker, type Word } from './change-tracker.ts'

export interface GiteaDriverOptions {
  name: string
  /** Base of the addresses that people open, without a trailing slash. */
  publicUrl: string
  includePrivate: boolean
  mapping: RepositoryMapping
  /** Most requests that a walk has under way at once. */
  atOnce: number
  /** Seconds within which a walk asks a repository again that shows no change; an hour if unset. */
  reconcile?: number
  /** Milliseconds of a clock that only goes forward. */
  clock?: () => number
  /**
   * Platform whose file is taken where a release has files of several, such as `linux/arm64`; the first file if unset.
   */
  platform?: string
  /**
   * Called when the first platform of several is taken for an extension, since none is configured; again when it
   * changes.
   */
  onFirstPlatform?: (choice: { type: string, name: string, file: string, platform: string }) => void
  /** Told of each walk: how many private repositories it shows. */
  onPrivate?: (count: number) => void
}

/** A repository that means an extension. */
interface Candidate { repository: GiteaRepository, identity: Identity }

/**
 * What became of one repository of a walk: a release, why there is none, or neither. Of one that is not as it should be
 * only the name is known.
 */
interface Read {
  repository?: GiteaRepository
  identity: Identity
  release?: Release
  error?: RegistryError
  /** Whether the error is that its releases are refused. */
  refused?: boolean
}

/** Extensions as releases of the repositories of one Gitea or Forgejo organisation or user. */
export function createGiteaDriver (api: GiteaApi, checksums: Checksums, options: GiteaDriverOptions): Driver {
  const { name: instance, publicUrl, mapping, reconcile = 3600, clock = () => performance.now() } = options
  const walk = pLimit(options.atOnce)
  const memory = createChangeTracker({ reconcile, clock })
  const platform = options.platform === undefined ? undefined : describePlatform(parsePlatform(options.platform))
  const firstPlatforms = new LRUCache<string, string>({ max: 10_000 })

  const isPrivate = (repository: GiteaRepository): boolean => repository.private || repository.internal === true

  /** Skips a whole repository. Its name is not for everybody when it is private, or when its releases are refused. */
  function skipRepository (
    { repository, identity: { type, name } }: Candidate,
    reason: SkipReason,
    skip: Skip,
    refused = reason === 'refused'
  ): void {
    skip({
      kind: 'repository',
      reason,
      type,
      name,
      repository: repository.name,
      ...((refused || isPrivate(repository)) && { hidden: true })
    })
  }

  /** The extension that a repository is, if it is one that may be shown. */
  function candidate (repository: GiteaRepository, skip: Skip): Candidate | undefined {
    const identity = mapping.identify(repository.name)
    if (identity === undefined) return undefined
    const reason: SkipReason | undefined = !options.includePrivate && isPrivate(repository)
      ? 'private'
      : repository.mirror === true ? 'mirror' : repository.has_releases === false ? 'releases_off' : undefined
    if (reason === undefined) return { repository, identity }
    skipRepository({ repository, identity }, reason, skip)
    return undefined
  }

  const page = ({ owner, name }: GiteaRepository) =>
    `${publicUrl}/${encodeURIComponent(owner.login)}/${encodeURIComponent(name)}`

  function metadata ({ repository, identity: { type, name } }: Candidate): Metadata {
    const { owner, description, topics } = repository
    const tags = plainTags(topics ?? [])
    return {
      name,
      type,
      description: plainText(description, maxDescription) ?? '',
      author: plainText(owner.full_name) ?? owner.login,
      repository: page(repository),
      ...(tags !== undefined && { tags })
    }
  }

  function fileOf (
    repository: GiteaRepository,
    asset: GiteaAsset,
    assets: readonly GiteaAsset[],
    where: Place,
    skip: Skip
  ): FileReference {
    const { name, uuid, size } = asset
    const { tag = '' } = where
    // The address by name leads to either of two files of one name, the one by uuid to this one.
    const twice = assets.filter(other => other.name === name).length > 1
    return {
      name: safeFileName(name) ?? `${repository.name}.tar.gz`,
      size,
      url: twice
        ? `${publicUrl}/attachments/${uuid}`
        : `${page(repository)}/releases/download/${encodeURIComponent(tag)}/${encodeURIComponent(name)}`,
      validator: uuid,
      locator: uuid,
      ...checksums.of(asset, assets, where, skip)
    }
  }

  const unreadable = () =>
    registryError('service_unavailable', `Instance ${instance} cannot be asked`, {
      instance,
      details: 'Answer has an unexpected form',
      proxyError: 'http_protocol_error'
    })

  const placeOf = ({ repository, identity: { type, name } }: Candidate): Place => ({
    type,
    name,
    repository: repository.name
  })

  /** The versions of published releases, highest first; `whole` when each of them could be read. */
  function versionsOf (
    { repository, identity }: Candidate,
    releases: readonly GiteaRelease[],
    skip: Skip
  ): { versions: Release[], whole: boolean } {
    const of = placeOf({ repository, identity })
    const byTag = new Map(releases.map(release => [release.tag_name, release]))
    const tags = tagsByVersion(byTag.keys(), tag => { skip({ kind: 'tag', reason: 'not_semver', ...of, tag }) })
    let whole = true
    const first: Array<{ version: string, file: string, platform: string }> = []
    const versions = orderReleases([...tags].flatMap(([version, tag]): Release[] => {
      const release = byTag.get(tag)
      const published = utcSeconds(release?.published_at ?? undefined) ?? utcSeconds(release?.created_at ?? undefined)
      const where = { ...of, version, tag }
      if (release === undefined || published === undefined) {
        skip({ kind: 'release', reason: 'malformed', ...where })
        whole = false
        return []
      }
      const assets = usableAssets(release.assets, where, skip)
      const choice = chooseFile(assets, {
        repository: repository.name,
        name: identity.name,
        versions: [version, tag],
        platform
      })
      if (choice === 'other_platform') {
        skip({ kind: 'release', reason: choice, ...where })
        return []
      }
      const { asset, firstPlatform, passedOver } = choice
      for (const { reason, file } of passedOver) {
        skip({ kind: 'asset', reason, ...where, file, ...(asset !== undefined && { chosen: asset.name }) })
      }
      if (asset !== undefined && firstPlatform !== undefined) {
        first.push({ version, file: asset.name, platform: firstPlatform })
      }
      return [{
        version,
        published_at: published,
        ...(release.prerelease === true && { prerelease: true }),
        ...(asset !== undefined && { file: fileOf(repository, asset, assets, where, skip) })
      }]
    }))
    const { version: current } = currentRelease(versions) ?? {}
    for (const { version, file, platform } of first) {
      if (version === current) noteFirstPlatform({ ...identity, file, platform })
    }
    return { versions, whole }
  }

  /**
   * Reports that the first of several platforms is taken for the current version of an extension, unless that is known.
   */
  function noteFirstPlatform (
    { type, name, file, platform }: { type: string, name: string, file: string, platform: string }
  ): void {
    const key = `${type}/${name}`
    if (firstPlatforms.get(key) === platform) return
    firstPlatforms.set(key, platform)
    options.onFirstPlatform?.({ type, name, file: plainText(file) ?? '', platform })
  }

  /** A release with its checksum; `settled` unless the release changes while it is read. */
  async function finish (of: Candidate, release: Release, skip: Skip): Promise<{ release: Release, settled: boolean }> {
    const { file } = release
    if (file?.checksumLocator === undefined) return { release, settled: true }
    const found = await checksums.look(file.checksumLocator, skipped => {
      skip({ ...placeOf(of), version: release.version, ...skipped })
    })
    const { checksumLocator, ...rest } = file
    return { release: { ...release, file: { ...rest, ...found } }, settled: found !== undefined }
  }

  /** The versions of a repository, highest first; `settled` when each of its releases could be read. */
  async function releasesOf (of: Candidate, skip: Skip): Promise<{ versions: Release[], settled: boolean }> {
    if (!isPrivate(of.repository)) return await readReleases(of, skip)
    // A private repository is named by what it shows only: without a version it is not.
    const skipped: Skipped[] = []
    let isShown = false
    try {
      const result = await readReleases(of, one => { skipped.push(one) })
      isShown = result.versions.length > 0
      return result
    } finally {
      for (const one of skipped) skip(isShown ? one : { ...one, hidden: true })
    }
  }

  async function readReleases (of: Candidate, skip: Skip): Promise<{ versions: Release[], settled: boolean }> {
    const releases = of.repository.release_counter === 0
      ? { found: [], whole: true }
      : await api.releases(of.repository.name, row => {
        const tag = textField(row, 'tag_name')
        skip({
          kind: 'release',
          reason: row === tooLargeRow ? 'too_large' : 'malformed',
          ...placeOf(of),
          ...(tag !== undefined && { tag })
        })
      })
    if (releases === undefined) {
      // Where the repository itself is still there, its releases are withheld from these credentials.
      if (await api.repository(of.repository.name) !== undefined) throw statusError(instance, 403)
      return { versions: [], settled: false }
    }
    const { versions, whole } = versionsOf(of, releases.found, skip)
    // Where nothing but unreadable releases is, there may well be a version: that is no absence.
    const settled = whole && releases.whole
    if (versions.length === 0 && !settled) throw unreadable()
    return { versions, settled }
  }

  /** Takes down what a repository said, for the walks to come, unless it may say another thing in a moment. */
  function note ({ repository }: Candidate, release: Release | undefined, settled: boolean, at: number): void {
    if (settled) memory.remember(repository, release, at)
    else memory.forget(repository.name)
  }

  /** A repository with what it said. */
  const told = ({ repository, identity }: Candidate, { release }: Word): Candidate & { release?: Release } => ({
    repository,
    identity,
    ...(release !== undefined && { release })
  })

  /** The current release of a repository, or why it could not be read. */
  async function current (of: Candidate, failFast: FailFast, skip: Skip): Promise<Read & Candidate> {
    const at = memory.now()
    let listed = false
    try {
      const { versions, settled } = await failFast(async () => await releasesOf(of, skip))
      listed = true
      const release = currentRelease(versions)
      const found = release === undefined ? undefined : await failFast(async () => await finish(of, release, skip))
      note(of, found?.release, settled && found?.settled !== false, at)
      return found === undefined ? of : { ...of, release: found.release }
    } catch (error) {
      if (!isRegistryError(error)) throw error
      memory.forget(of.repository.name)
      // A checksum file that is refused is a failure: a page to log in may stand in its place for a moment.
      return { ...of, error, refused: !listed && isRefusal(error) }
    }
  }

  /** The same of what is known of a repository, which a client's request may have left without its checksum. */
  async function finishKnown (of: Read & Candidate, failFast: FailFast, skip: Skip): Promise<Read & Candidate> {
    const { release } = of
    if (release?.file?.checksumLocator === undefined) return of
    const at = memory.now()
    try {
      const found = await failFast(async () => await finish(of, release, skip))
      note(of, found.release, found.settled, at)
      return { ...of, release: found.release }
    } catch (error) {
      if (!isRegistryError(error)) throw error
      memory.forget(of.repository.name)
      return { repository: of.repository, identity: of.identity, error }
    }
  }

  /**
   * Throws when none of the repositories of a crawl could be read. A single one that is refused costs itself only,
   * since the credentials were accepted for the list of repositories; when several are refused and none is read, the
   * credentials are.
   */
  function mustHaveRead (read: ReadonlyArray<Read & Candidate>): void {
    if (read.some(({ error }) => error === undefined)) return
    const failure = read.find(({ refused }) => refused !== true) ?? (read.length > 1 ? read[0] : undefined)
    if (failure?.error !== undefined) throw failure.error
  }

  return {
    name: instance,
    source: 'gitea',

    async list ({ skip } = ignoreSkips) {
      const began = memory.now()
      const listed = await api.repositories(skip)
      const candidates: Candidate[] = []
      await forEachYielding(listed.found, repository => {
        const of = candidate(repository, skip)
        if (of !== undefined) candidates.push(of)
      })
      options.onPrivate?.(candidates.filter(({ repository }) => isPrivate(repository)).length)
      const failFast = createFailFast()
      const holding = memory.holding(candidates.map(({ repository }) => repository))
      const held: Array<Read & Candidate> = []
      const asked: Candidate[] = []
      await forEachYielding(candidates, of => {
        const word = holding.get(of.repository.name)
        if (word === undefined) asked.push(of)
        else held.push(told(of, word))
      })
      const answers = await Promise.all(
        asked.map(async of => await walk(async () => await current(of, failFast, skip)))
      )
      const known: Array<Read & Candidate> = []
      // What a client has heard of a repository meanwhile is younger than what the walk knows.
      await forEachYielding([...held, ...answers], of => {
        const word = memory.since(of.repository.name, began)
        known.push(word === undefined ? of : told(of, word))
      })
      const read = await Promise.all(
        known.map(async of =>
          of.release?.file?.checksumLocator === undefined
            ? of
            : await walk(async () => await finishKnown(of, failFast, skip))
        )
      )
      if (listed.truncated === undefined) memory.retain(new Set(candidates.map(({ repository }) => repository.name)))
      mustHaveRead(read.filter(({ repository }) => repository.release_counter !== 0))

      // Of two repositories that mean one extension the first that has a version counts; one that cannot be read might
      // have.
      const unread = listed.unread.flatMap(name => {
        const identity = mapping.identify(name)
        return identity === undefined ? [] : [{ identity, error: unreadable() }]
      })
      const chosen = new Map<string, Read>()
      const all: Read[] = [...read, ...unread]
      await forEachYielding(all.sort((a, b) => a.identity.rank - b.identity.rank), found => {
        if (found.release === undefined && found.error === undefined) return
        const key = `${found.identity.type}/${found.identity.name}`
        if (!chosen.has(key)) chosen.set(key, found)
        else if (found.repository !== undefined) {
          skipRepository({ repository: found.repository, identity: found.identity }, 'duplicate', skip, found.refused)
        }
      })
      const owners = [...chosen.values()]
      for (const of of read) if (of.refused === true) skipRepository(of, 'refused', skip)
      const found: Crawl['found'] = []
      await forEachYielding(owners, ({ release, repository, identity }) => {
        if (release !== undefined && repository !== undefined) {
          found.push({ metadata: metadata({ repository, identity }), release })
        }
      })
      return {
        found,
        unchanged: new Set(holding.keys()),
        failed: owners.flatMap(({ identity: { type, name }, error, refused }) =>
          error === undefined || refused === true ? [] : [{ type, name, error }]
        ),
        refused: owners.flatMap(({ identity: { type, name }, error, refused }) =>
          error !== undefined && refused === true ? [{ type, name, error }] : []
        ),
        ...(listed.truncated !== undefined &&
          {
            truncated: true,
            why: listed.truncated,
            gone: read.filter(({ release, error }) => release === undefined && error === undefined).map((
              { identity: { type, name } }
            ) => ({ type, name }))
          })
      }
    },

    async load (type, name, { skip } = ignoreSkips): Promise<Loaded | undefined> {
      for (const repositoryName of mapping.repositories(type, name)) {
        const repository = await api.repository(repositoryName)
        const of = repository === undefined ? undefined : candidate(repository, skip)
        if (of === undefined) continue
        const at = memory.now()
        const { versions, settled } = await releasesOf(of, skip)
        note(of, currentRelease(versions), settled, at)
        if (versions.length > 0) return { metadata: metadata(of), releases: versions }
      }
      return undefined
    },

    async checksum ({ checksumLocator }, { skip } = ignoreSkips) {
      return checksumLocator === undefined ? {} : await checksums.look(checksumLocator, skip)
    },

    async open (file, { signal, offset: wanted = 0, etag }) {
      const opened = await api.open(file.locator, {
        signal,
        offset: wanted,
        ...(file.size !== undefined && { size: file.size }),
        ...(etag !== undefined && { etag })
      })
      if (opened === undefined) return undefined
      const { offset, headers } = opened
      const { 'content-type': type = '', 'content-encoding': encoding = 'identity' } = headers
      const told = headers['content-length']
      const length = told === undefined ? file.size : offset + Number(told)
      // A page instead of the file is what a server shows to those who may not have it; Gitea gives text files as plain
      // text.
      const page = /^text\/html\b/i.test(type)
      if (page || encoding !== 'identity' || (file.size !== undefined && length !== file.size)) {
        opened.stream.destroy()
        if (page) throw statusError(instance, 401)
        throw registryError('service_unavailable', `Instance ${instance} cannot be asked`, {
          instance,
          details: 'File is not as it was published',
          proxyError: 'http_response_incomplete'
        })
      }
      return {
        file,
        stream: opened.stream,
        offset,
        ...(length !== undefined && { length }),
        ...(headers.etag !== undefined && { etag: headers.etag })
      }
    },

    ping: async signal => { await api.ping(signal) }
  }
}
