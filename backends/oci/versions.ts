import pLimit from 'p-limit'
import { compare, rcompare } from 'semver'
import { registryError } from '../../lib/errors.ts'
import type { Current, Loaded, Release, Skip } from '../driver/driver.ts'
import { currentRelease, isPrerelease, orderReleases, tagsByVersion } from '../driver/version.ts'
import { metadataOf } from './metadata.ts'
import { createReader, type ManifestReaderOptions } from './reader.ts'
import type { ExtensionRef } from './repositories.ts'
import type { Tag } from './transport.ts'

/** A release, and the annotations with the metadata of its extension. */
interface AnnotatedRelease extends Release { annotations: unknown[] }

export interface VersionsOptions extends Omit<ManifestReaderOptions, 'skip' | 'limit' | 'onKnownDigest'> {
  /** Name of the instance. */
  instance: string
  /** Maximum number of requests of one crawl or load at the same time. */
  concurrency: number
  skip: Skip
}

/**
 * Creates the reader of versions for one crawl or load. Each has limits of its own, so that the requests of a client do
 * not wait for those of a crawl.
 */
export function createVersions ({ instance, concurrency, skip, ...options }: VersionsOptions) {
  const { transport } = options
  const limit = pLimit(concurrency)
  const damaged = new Set<string>()
  const oldestDigests = new Map<string, number>()
  const reader = createReader({
    ...options,
    limit,
    onKnownDigest: (repository, at) => {
      oldestDigests.set(repository, Math.min(at, oldestDigests.get(repository) ?? Infinity))
    },
    skip: skipped => {
      const { reason, repository } = skipped
      if (repository !== undefined && (reason === 'malformed' || reason === 'missing_content')) damaged.add(repository)
      skip(skipped)
    }
  })

  /** Throws when a repository without a readable version has damaged content: this is not an absence. */
  function mustBeWhole (repository: string): void {
    if (damaged.has(repository)) {
      throw registryError('service_unavailable', `Instance ${instance} is unavailable`, {
        instance,
        details: 'Content of a repository is damaged',
        proxyError: 'http_protocol_error'
      })
    }
  }

  async function readTags (repository: string, extension: ExtensionRef): Promise<Map<string, Tag>> {
    const tags = await limit(() => transport.tags(repository))
    return versionTags(tags ?? [], tag => skip({ kind: 'tag', reason: 'not_semver', ...extension, repository, tag }))
  }

  async function readReleases (
    repository: string,
    tags: Map<string, Tag>,
    versions: Iterable<string>,
    extension: ExtensionRef
  ): Promise<AnnotatedRelease[]> {
    const found = await Promise.all([...versions].map(async version => {
      const tag = tags.get(version)
      return tag === undefined ? undefined : await reader.read(repository, tag, { ...extension, version })
    }))
    return orderReleases(found.filter(release => release !== undefined))
  }

  return {
    /** Returns whether content of a repository was missing or malformed in a read. */
    isDamaged: (repository: string): boolean => damaged.has(repository),

    /**
     * Returns the time at which the oldest digest was read that reads of a repository used without a request; Infinity
     * when they used none.
     */
    oldestDigest: (repository: string): number => oldestDigests.get(repository) ?? Infinity,

    /**
     * Returns the current version of a repository, with as few manifests as possible; undefined when it has no version.
     */
    async current (repository: string, extension: ExtensionRef): Promise<Current | undefined> {
      const tags = await readTags(repository, extension)
      for (const group of byPrecedence(tags.keys())) {
        const [first] = await readReleases(repository, tags, group, extension)
        if (first !== undefined) {
          return { metadata: metadataOf(first.annotations, extension), release: toRelease(first) }
        }
      }
      mustBeWhole(repository)
      return undefined
    },

    /** Returns all versions of a repository; undefined when it has no version. */
    async all (repository: string, extension: ExtensionRef): Promise<Loaded | undefined> {
      const tags = await readTags(repository, extension)
      const releases = await readReleases(repository, tags, tags.keys(), extension)
      const current = currentRelease(releases)
      if (current !== undefined) {
        return { metadata: metadataOf(current.annotations, extension), releases: releases.map(toRelease) }
      }
      mustBeWhole(repository)
      return undefined
    }
  }
}
export type Versions = ReturnType<typeof createVersions>

const toRelease = ({ annotations, ...release }: AnnotatedRelease): Release => release

/**
 * Returns the tag of each version. `_` in a tag represents `+`, which tags cannot contain. The names of a layout can
 * contain `+` itself.
 */
function versionTags (tags: readonly Tag[], skip: (tag: string) => void): Map<string, Tag> {
  const bySpelling = new Map<string, Tag>()
  for (const tag of [...tags].sort((a, b) => a.name < b.name ? -1 : 1)) {
    const spelling = tag.name.replaceAll('_', '+')
    if (spelling === tag.name || !bySpelling.has(spelling)) bySpelling.set(spelling, tag)
  }
  const chosen = tagsByVersion(bySpelling.keys(), spelling => skip(bySpelling.get(spelling)?.name ?? spelling))
  return new Map([...chosen].flatMap(([version, spelling]) => {
    const tag = bySpelling.get(spelling)
    return tag === undefined ? [] : [[version, tag] as const]
  }))
}

/**
 * Returns versions in groups of equal precedence, in the order in which one of them may be the current version:
 * releases before pre-releases, highest first.
 */
function byPrecedence (versions: Iterable<string>): string[][] {
  const groups: string[][] = []
  for (
    const version of [...versions].sort((a, b) => Number(isPrerelease(a)) - Number(isPrerelease(b)) || rcompare(a, b))
  ) {
    const group = groups.at(-1)
    if (group?.[0] !== undefined && compare(group[0], version) === 0) group.push(version)
    else groups.push([version])
  }
  return groups
}
