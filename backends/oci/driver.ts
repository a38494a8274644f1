import pLimit from 'p-limit'
import { compare, rcompare } from 'semver'
import { isRefusal, isRegistryError, registryError, type RegistryError } from '../../lib/errors.ts'
import type { ExtensionType } from '../../schemas/extension.ts'
import {
  ignoreSkips,
  type Crawl,
  type Driver,
  type Loaded,
  type Metadata,
  type Release,
  type Skip
} from '../driver/driver.ts'
import { createFailFast } from '../driver/fail-fast.ts'
import type { RepositoryMapping } from '../driver/mapping.ts'
import { parsePlatform } from '../driver/platform.ts'
import { currentRelease, isPrerelease, orderReleases, tagsByVersion } from '../driver/version.ts'
import { metadataOf } from './metadata.ts'
import { createReader, createTagMemory, type ByteCache, type FirstPlatform, type Reader } from './reader.ts'
import { ContentError, type RepositoryNames, type Tag, type Transport } from './transport.ts'

export interface OciDriverOptions {
  /** Name of the instance. */
  name: string
  /** Path below which the extensions are, without a slash at either end; empty for the root. */
  namespace: string
  mapping: RepositoryMapping
  transport: Transport
  /** Told of each file that is not what its digest or size says. */
  onDamage?: () => void
  /** Keeps verified manifests and configs by digest. */
  immutable?: ByteCache
  /** Platform whose artifacts are taken from an index, such as `linux/arm64`; the first artifact if unset. */
  platform?: string
  /** Called when the first platform of several is taken, since none is configured. */
  onFirstPlatform?: (choice: FirstPlatform) => void
  /** Most questions that one walk or load has under way at once; 8 if unset. */
  concurrency?: number
  /** Milliseconds of a clock that only goes forward. */
  clock?: () => number
}

/**
 * Milliseconds for which the registry's own list of repositories may prove that a denied name is not there, and within
 * which a list that failed is not asked for again.
 */
const discoveryLife = 10_000

interface ExtensionRef { type: ExtensionType, name: string }
/** Repositories that were refused, and what they mean. */
type Refusals = Array<{ extension: ExtensionRef, repository: string, error: RegistryError }>
/** A release, and the annotations that tell the rest of its extension. */
interface Version extends Release { annotations: unknown[] }
interface Current { metadata: Metadata, release: Release }
/** A reader that knows in which repositories it has met damage. */
interface DriverReader extends Reader { damaged: ReadonlySet<string>, skip: Skip }

/**
 * The tag of each version. In tags `_` stands for `+`, which they cannot hold; in a layout's names it may stand itself.
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
 * Versions of equal precedence together, in the order in which one of them may be the current one: releases first,
 * highest first.
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

const toRelease = ({ annotations, ...release }: Version): Release => release

const toCurrent = ({ annotations, ...release }: Version, extension: ExtensionRef): Current => ({
  metadata: metadataOf(annotations, extension),
  release
})

/**
 * The driver of one OCI registry or directory of image layouts, reached over `transport`. A version is a tag that is a
 * semantic version of an artifact; others are skipped. Throws what the transport throws; see `Driver`.
 */
export function createOciDriver (options: OciDriverOptions): Driver {
  const {
    name: instance,
    namespace,
    mapping,
    transport,
    immutable,
    concurrency = 8,
    onDamage,
    onFirstPlatform,
    clock = () => performance.now()
  } = options
  const platform = options.platform === undefined ? undefined : parsePlatform(options.platform)
  const below = namespace === '' ? '' : `${namespace}/`
  const pointed = createTagMemory()
  let discovered: { at: number, repositories: Promise<RepositoryNames> } | undefined
  // Limits of its own for each call: a download's look-up does not queue behind a walk.
  function reader (skip: Skip): DriverReader {
    const damaged = new Set<string>()
    const note: Skip = skipped => {
      const { reason, repository } = skipped
      if (repository !== undefined && (reason === 'malformed' || reason === 'missing_content')) damaged.add(repository)
      skip(skipped)
    }
    return {
      ...createReader({
        transport,
        limit: pLimit(concurrency),
        skip: note,
        platform,
        onFirstPlatform,
        pointed,
        ...(immutable !== undefined && { immutable })
      }),
      damaged,
      skip
    }
  }

  /** Of a repository without any version that can be read: throws when that is for damage, which is no absence. */
  function mustBeWhole (repository: string, { damaged }: DriverReader): void {
    if (damaged.has(repository)) {
      throw registryError('service_unavailable', `Instance ${instance} cannot be asked`, {
        instance,
        details: 'Content of a repository is damaged',
        proxyError: 'http_protocol_error'
      })
    }
  }

  async function tagsOf (
    repository: string,
    extension: ExtensionRef,
    { limit, skip }: DriverReader
  ): Promise<Map<string, Tag>> {
    const tags = await limit(() => transport.tags(repository))
    return versionTags(tags ?? [], tag => skip({ kind: 'tag', reason: 'not_semver', ...extension, repository, tag }))
  }

  async function readVersions (
    repository: string,
    tags: Map<string, Tag>,
    versions: Iterable<string>,
    extension: ExtensionRef,
    { read }: Reader
  ): Promise<Version[]> {
    const found = await Promise.all([...versions].map(async version => {
      const tag = tags.get(version)
      return tag === undefined ? undefined : await read(repository, tag, { ...extension, version })
    }))
    return orderReleases(found.filter(version => version !== undefined))
  }

  /** The current version of a repository, found with as few manifests as it takes. */
  async function currentOf (
    repository: string,
    extension: ExtensionRef,
    reader: DriverReader
  ): Promise<Current | undefined> {
    const tags = await tagsOf(repository, extension, reader)
    for (const group of byPrecedence(tags.keys())) {
      const [first] = await readVersions(repository, tags, group, extension, reader)
      if (first !== undefined) return toCurrent(first, extension)
    }
    mustBeWhole(repository, reader)
    return undefined
  }

  /**
   * The first of the repositories that mean one extension that has a version; a refused one is passed over, as `load`
   * does.
   */
  async function firstOf (
    repositories: string[],
    extension: ExtensionRef,
    reader: DriverReader,
    refusals: Refusals
  ): Promise<Current | undefined> {
    let refusal: RegistryError | undefined
    for (const [index, repository] of repositories.entries()) {
      try {
        const found = await currentOf(repository, extension, reader)
        if (found === undefined) continue
        for (const shadowed of repositories.slice(index + 1)) {
          reader.skip({ kind: 'repository', reason: 'duplicate', ...extension, repository: shadowed })
        }
        return found
      } catch (error) {
        if (!isRefusal(error)) throw error
        refusals.push({ extension, repository, error })
        refusal ??= error
      }
    }
    if (refusal !== undefined) throw refusal
    return undefined
  }

  /** Discovers the repositories. The result, or the failure, is remembered for `discoveryLife`. */
  async function discover (): Promise<RepositoryNames> {
    discovered = { at: clock(), repositories: transport.repositories(namespace) }
    return await discovered.repositories
  }

  /**
   * Returns whether the registry's own list of repositories, when it is complete, has none of these. Many registries
   * deny repositories that do not exist; that list tells them from repositories that are refused.
   */
  async function areUnlisted (repositories: readonly string[]): Promise<boolean> {
    try {
      const { names, truncated } = await (discovered !== undefined && clock() - discovered.at < discoveryLife
        ? discovered.repositories
        : discover())
      return truncated !== true && !repositories.some(repository =>
        names.includes(repository)
      )
    } catch (error) {
      if (!isRegistryError(error)) throw error
      return false
    }
  }

  /**
   * Decides whose a crawl's refusals are. When others could be read they are the repositories' own, and so is a single
   * one when the registry itself accepts the credentials. Throws when they are the instance's.
   */
  async function mustAccept (refused: NonNullable<Crawl['refused']>, read: number): Promise<void> {
    const [first, second] = refused
    if (first === undefined || read > 0) return
    if (second !== undefined) throw first.error
    await transport.ping(new AbortController().signal)
  }

  /** The repositories that may hold an extension, in the order in which they count. */
  const candidates = (type: ExtensionType, name: string): string[] =>
    mapping.repositories(type, name).map(path => below + path).filter(repository =>
      transport.closed !== true || transport.named?.has(repository) === true
    )

  /** Repositories that mean extensions, those of one extension together, in the order in which they count. */
  function group (names: readonly string[]): Array<{ extension: ExtensionRef, repositories: string[] }> {
    const groups = new Map<string, { extension: ExtensionRef, ranked: Array<{ rank: number, repository: string }> }>()
    for (const repository of new Set(names)) {
      if (!repository.startsWith(below)) continue
      const identity = mapping.identify(repository.slice(below.length))
      if (identity === undefined) continue
      const { type, name, rank } = identity
      const key = `${type}/${name}`
      const { extension, ranked } = groups.get(key) ?? { extension: { type, name }, ranked: [] }
      ranked.push({ rank, repository })
      groups.set(key, { extension, ranked })
    }
    return [...groups.values()].map(({ extension, ranked }) => ({
      extension,
      repositories: ranked.sort((a, b) => a.rank - b.rank).map(({ repository }) => repository)
    }))
  }

  return {
    name: instance,
    source: 'oci',
    local: transport.local,
    covers: (type, name) => transport.closed !== true || candidates(type, name).length > 0,

    async list ({ skip } = ignoreSkips) {
      const shared = reader(skip)
      const { names, truncated, truncatedBy: why, expected: usual } = await discover()
      const refused: NonNullable<Crawl['refused']> = []
      const refusals: Refusals = []
      const crawl: Crawl = {
        found: [],
        failed: [],
        ...(truncated === true && { truncated, absent: [] }),
        ...(why !== undefined && { truncatedBy: why }),
        ...(usual === true && { expected: usual })
      }
      const failFast = createFailFast()
      // As many repositories at once as questions: a later one then sees what became of those before it.
      const walk = pLimit(concurrency)
      let read = 0
      await Promise.all(
        group(names).map(async ({ extension, repositories }) => {
          try {
            const current = await walk(async () =>
              await failFast(async () => await firstOf(repositories, extension, shared, refusals))
            )
            read++
            if (current === undefined) crawl.absent?.push(extension)
            else crawl.found.push(current)
          } catch (error) {
            if (!isRegistryError(error)) throw error
            if (isRefusal(error)) refused.push({ ...extension, error })
            else crawl.failed.push({ ...extension, error })
          }
        })
      )
      const [failure] = crawl.failed
      if (failure !== undefined && read === 0) throw failure.error
      await mustAccept(refused, read)
      if (refused.length > 0) crawl.refused = refused
      for (const { extension, repository } of refusals) {
        skip({
          kind: 'repository',
          reason: 'refused',
          ...extension,
          repository,
          ...(transport.named?.has(repository) !== true && { hidden: true })
        })
      }
      return crawl
    },

    async load (type, name, { skip } = ignoreSkips): Promise<Loaded | undefined> {
      const shared = reader(skip)
      const extension = { type, name }
      let denied: RegistryError | undefined
      const deniedOnes: string[] = []
      for (const repository of candidates(type, name)) {
        try {
          const tags = await tagsOf(repository, extension, shared)
          const versions = await readVersions(repository, tags, tags.keys(), extension, shared)
          const current = currentRelease(versions)
          if (current !== undefined) {
            return { metadata: metadataOf(current.annotations, extension), releases: versions.map(toRelease) }
          }
          mustBeWhole(repository, shared)
        } catch (error) {
          // Many registries deny what they do not have; the extension may be under the next name.
          if (!isRefusal(error)) throw error
          denied ??= error
          deniedOnes.push(repository)
        }
      }
      if (denied !== undefined && !await areUnlisted(deniedOnes)) throw denied
      return undefined
    },

    async open (file, { signal, offset = 0, etag }) {
      const at = file.locator.lastIndexOf('@')
      const content = { digest: file.locator.slice(at + 1), size: file.size ?? 0 }
      const damaged = (cause: ContentError) => {
        onDamage?.()
        return registryError('service_unavailable', `Instance ${instance} cannot be asked`, {
          instance,
          cause,
          details: 'File is damaged',
          proxyError: 'http_response_incomplete'
        })
      }
      try {
        const blob = await transport.blob(file.locator.slice(0, at), content, {
          signal,
          offset,
          ...(etag !== undefined && { etag })
        })
        return blob === undefined ? undefined : { file, ...blob, length: content.size }
      } catch (error) {
        throw error instanceof ContentError ? damaged(error) : error
      }
    },

    async ping (signal) {
      await transport.ping(signal)
    }
  }
}
