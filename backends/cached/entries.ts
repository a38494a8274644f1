import { loadedEntry, type Cache, type CacheKey, type LoadedEntry, type Loader } from '../../plugins/cache/cache.ts'
import { isRegistryError } from '../../lib/errors.ts'
import type { CachedResult } from '../../lib/result.ts'
import { reuse, reuseAll } from '../../lib/reuse.ts'
import type { Extension, ExtensionType } from '../../schemas/extension.ts'
import type { Driver, Loaded, Release } from '../driver/driver.ts'
import { isUpstreamResponse } from '../driver/fail-fast.ts'
import { currentRelease } from '../driver/version.ts'
import type { CachedRead, ReadOptions } from './backend.ts'
import { type Breaker, passes, type UpstreamCall } from './breaker.ts'
import { type CacheKeys, type Described, type VersionListing, isUnchecked, versionListing } from './keys.ts'
import type { ListedNames } from './listed-names.ts'
import type { Presenter } from './presenter.ts'
import type { Skips } from './skips.ts'

export interface NamedEntriesDependencies {
  driver: Driver
  cache: Cache
  keys: CacheKeys
  presenter: Presenter
  skips: Skips
  breaker: Breaker
  call: UpstreamCall
  listed: ListedNames
  /** Called when entries of the cache have changed. */
  onChange: () => void
}

/** One of the two cached entries of an extension, and the value that a listing has in its place. */
interface NamedEntry<T> {
  key: CacheKey<T>
  loader: Loader
  /** Returns the value as far as a listing shows it; undefined when it does not. */
  ofListed: (known: Extension) => T | undefined
}

/**
 * Creates the reads of the cached entries of single extensions. Metadata and versions are two entries, which one load
 * fills. When the load fails, the newer one of the cached entry and the listing is returned.
 */
export function createNamedEntries (dependencies: NamedEntriesDependencies) {
  const { driver, cache, keys, presenter, skips, breaker, call, listed, onChange } = dependencies
  const { name: instance } = driver

  async function readUpstream (type: ExtensionType, name: string): Promise<Loaded | undefined> {
    const { skip, end } = skips.load(type, name)
    const loaded = await call(async () => await driver.load(type, name, { skip }), {
      forgives: isUpstreamResponse,
      passes,
      extension: `${type}/${name}`
    })
    end()
    return loaded
  }

  async function load (type: ExtensionType, name: string): Promise<LoadedEntry[]> {
    const [metadataKey, versionsKey] = [keys.metadata(type, name), keys.versions(type, name)]
    const loaded = await readUpstream(type, name)
    const current = loaded === undefined ? undefined : currentRelease(loaded.releases)
    if (loaded === undefined || current === undefined) {
      return [loadedEntry(metadataKey, undefined), loadedEntry(versionsKey, undefined)]
    }
    const { metadata, releases } = loaded
    onChange()
    const extension = reuse(cache.peek(metadataKey)?.value.extension, presenter.toExtension(metadata, current))
    const described: Described = isUnchecked(current)
      ? { extension, unchecked: { metadata, release: current } }
      : { extension }
    const versions = reuseAll(
      cache.peek(versionsKey)?.value.versions,
      releases.map(release => presenter.toVersion(metadata, release))
    )
    return [
      loadedEntry(metadataKey, described),
      loadedEntry(versionsKey, versionListing(releases, versions))
    ]
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
    load: () => load(type, name),
    blocked: () => breaker.blocked(passes),
    ...(signal !== undefined && { signal }),
    ...(maxAge !== undefined && { maxAge })
  })

  const metadataOf = (type: ExtensionType, name: string, options: ReadOptions): NamedEntry<Described> => ({
    key: keys.metadata(type, name),
    loader: loaderOf(type, name, options, true),
    ofListed: extension => ({ extension })
  })

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

  const readMetadata = async (type: ExtensionType, name: string, options: ReadOptions) =>
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
