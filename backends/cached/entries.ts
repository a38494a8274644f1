import {
  loadedEntry,
  type CacheKey,
  type LoadedEntry,
  type Loader
} from '../../plugins/cache/cache.ts'
import { isRegistryError } from '../../lib/errors.ts'
import type { CachedResult } from '../../lib/result.ts'
import { reuse, reuseAll } from '../../lib/reuse.ts'
import type { Extension, ExtensionType } from '../../schemas/extension.ts'
import type { Current, Release } from '../driver/driver.ts'
import { isUpstreamResponse } from '../driver/fail-fast.ts'
import { currentRelease } from '../driver/version.ts'
import type { CachedRead, ReadOptions } from './backend.ts'
import { passes } from './breaker.ts'
import {
  isUnchecked,
  versionListing,
  type Described,
  type VersionListing
} from './keys.ts'
import type { ListedNames } from './listed-names.ts'
import type { UpstreamReadDependencies } from './listing.ts'

export interface NamedEntriesDependencies extends UpstreamReadDependencies {
  listed: ListedNames
}

/** With `whole` a load of metadata fills both entries, because the versions are read next. */
type MetadataOptions = ReadOptions & { whole?: boolean }

/** Creates the function that runs the loads of a name one after another: the result of a later one is newer. */
function createTurns () {
  const last = new Map<string, Promise<unknown>>()
  return async <T>(name: string, load: () => Promise<T>): Promise<T> => {
    const before = last.get(name)
    const run = before === undefined ? load() : before.then(load, load)
    last.set(name, run)
    try {
      return await run
    } finally {
      if (last.get(name) === run) last.delete(name)
    }
  }
}

/** One of the two cached entries of an extension, and the value that a listing has in its place. */
interface NamedEntry<T> {
  key: CacheKey<T>
  loader: Loader
  /** Returns the value as far as a listing shows it; undefined when it does not. */
  ofListed: (known: Extension) => T | undefined
}

/**
 * Creates the reads of the cached entries of single extensions. Metadata and versions are two entries. A load of
 * versions fills both; a load of metadata does so unless the driver can read the current version only. When a load
 * fails, the newer one of the cached entry and the listing is returned.
 */
export function createNamedEntries (dependencies: NamedEntriesDependencies) {
  const { driver, cache, keys, presenter, skips, breaker, call, listed, onChange } = dependencies
  const { name: instance } = driver
  const inTurn = createTurns()

  const readUpstream = async <T>(type: ExtensionType, name: string, read: () => Promise<T>): Promise<T> =>
    await call(read, { forgives: isUpstreamResponse, passes, extension: `${type}/${name}` })

  const absentEntries = (type: ExtensionType, name: string): LoadedEntry[] =>
    [keys.metadata(type, name), keys.versions(type, name)].map(key => loadedEntry<unknown>(key, undefined))

  function metadataEntry (type: ExtensionType, name: string, { metadata, release }: Current): LoadedEntry {
    const key = keys.metadata(type, name)
    const extension = reuse(cache.peek(key)?.value.extension, presenter.toExtension(metadata, release))
    const described: Described = isUnchecked(release) ? { extension, unchecked: { metadata, release } } : { extension }
    return loadedEntry(key, described)
  }

  /** Loads both entries. */
  async function load (type: ExtensionType, name: string): Promise<LoadedEntry[]> {
    const { skip, end } = skips.load(type, name)
    const loaded = await readUpstream(type, name, async () => await driver.load(type, name, { skip }))
    end()
    const release = loaded === undefined ? undefined : currentRelease(loaded.releases)
    if (loaded === undefined || release === undefined) return absentEntries(type, name)
    const { metadata, releases } = loaded
    const key = keys.versions(type, name)
    const versions = reuseAll(
      cache.peek(key)?.value.versions,
      releases.map(release => presenter.toVersion(metadata, release))
    )
    onChange()
    return [metadataEntry(type, name, { metadata, release }), loadedEntry(key, versionListing(releases, versions))]
  }

  /** Loads the metadata only. Skipped items are reported by crawls and by whole reads, which also remove them. */
  async function loadCurrent (type: ExtensionType, name: string): Promise<LoadedEntry[]> {
    const current = await readUpstream(type, name, async () => await driver.current?.(type, name))
    if (current === undefined) return absentEntries(type, name)
    onChange()
    return [metadataEntry(type, name, current)]
  }

  /** `isListed`: whether an extension of a listing can be returned when the load fails. */
  const loaderOf = (
    type: ExtensionType,
    name: string,
    { maxAge, signal }: ReadOptions,
    isListed: boolean
  ): Loader => ({
    ...listed.limits(type, name, isListed),
    instance,
    flight: `${instance}:${type}/${name}`,
    load: () => inTurn(`${type}/${name}`, () => load(type, name)),
    blocked: () => breaker.blocked(passes),
    ...(signal !== undefined && { signal }),
    ...(maxAge !== undefined && { maxAge })
  })

  function metadataOf (
    type: ExtensionType,
    name: string,
    { whole, ...options }: MetadataOptions
  ): NamedEntry<Described> {
    const both = loaderOf(type, name, options, true)
    const loader = driver.current === undefined || whole === true
      ? both
      : {
          ...both,
          flight: `${both.flight} metadata`,
          subject: both.flight,
          load: () => inTurn(`${type}/${name}`, () => loadCurrent(type, name))
        }
    return { key: keys.metadata(type, name), loader, ofListed: extension => ({ extension }) }
  }

  /** The versions of an extension. They are loaded again when a newer listing shows a version that they lack. */
  function versionsOf (type: ExtensionType, name: string, options: ReadOptions): NamedEntry<VersionListing> {
    const maxAge = Math.min(options.maxAge ?? Infinity, listed.ageOfNewVersion(type, name) ?? Infinity)
    return {
      key: keys.versions(type, name),
      loader: loaderOf(type, name, maxAge === Infinity ? options : { ...options, maxAge }, false),
      ofListed: () => undefined
    }
  }

  function fresh<T> ({ key, loader }: NamedEntry<T>): CachedRead<T> | undefined {
    const result = cache.fresh(key, loader.maxAge)
    return result === undefined ? undefined : { ...result, uses: [{ key, loader }] }
  }

  /** Reads an entry; when its load fails, returns the newer one of the cached entry and the listing. */
  async function readOrStale<T> (
    type: ExtensionType,
    name: string,
    { key, loader, ofListed }: NamedEntry<T>
  ): Promise<CachedResult<T | undefined>> {
    const doesNotWait = cache.refusal(loader) !== undefined
    try {
      const cached = await cache.get(key, loader)
      if (cached.error === undefined || !listed.isNewer(type, name, cached.age, ofListed)) return cached
      return { ...listed.stale(type, name, cached.error, ofListed), hit: cached.hit }
    } catch (error) {
      if (!isRegistryError(error) || error.code === 'internal_error') throw error
      return { ...listed.stale(type, name, error, ofListed), hit: doesNotWait }
    }
  }

  const readMetadata = async (type: ExtensionType, name: string, options: MetadataOptions) =>
    await readOrStale(type, name, metadataOf(type, name, options))

  const readVersions = async (type: ExtensionType, name: string, options: ReadOptions) =>
    await readOrStale(type, name, versionsOf(type, name, options))

  return {
    readMetadata,
    readVersions,

    /** Returns the metadata of an extension from the cache, if it is fresh and at most `maxAge` seconds old. */
    cachedMetadata: (type: ExtensionType, name: string, maxAge: number): CachedRead<Described> | undefined =>
      fresh(metadataOf(type, name, { maxAge })),

    /** Returns the versions of an extension from the cache, if they are fresh and at most `maxAge` seconds old. */
    cachedVersions: (type: ExtensionType, name: string, maxAge: number): CachedRead<VersionListing> | undefined =>
      fresh(versionsOf(type, name, { maxAge })),

    /** Reads one release of an extension. A listing does not replace it when the load fails. */
    async readRelease (
      type: ExtensionType,
      name: string,
      version: string,
      options: ReadOptions
    ): Promise<CachedResult<Release | undefined>> {
      const result = await readVersions(type, name, options)
      return { ...result, value: result.value?.releases.find(release => release.version === version) }
    }
  }
}
export type NamedEntries = ReturnType<typeof createNamedEntries>
