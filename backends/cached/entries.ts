import {
  loadedEntry,
  type Cache,
  type CacheKey,
  type LoadedEntry,
  type Loader,
  type CacheUse
} from '../../plugins/cache/cache.ts'
import { isRegistryError, type RegistryError } from '../../lib/errors.ts'
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
  readBefore,
  versionListing,
  type CacheKeys,
  type Described,
  type TypeListing,
  type VersionListing
} from './keys.ts'
import type { UpstreamReadDependencies } from './listing.ts'

export interface ListedNamesDependencies {
  cache: Cache
  keys: CacheKeys
  /** Returns how a read of the listing of a type is counted, and how that listing is refreshed. */
  listUse: (type: ExtensionType) => CacheUse
}

/** Creates the reads of single names from the cached listings of an instance. They never load a listing. */
export function createListedNames ({ cache, keys, listUse }: ListedNamesDependencies) {
  const secondsSince = (at: number): number => (cache.now() - at) / 1000

  /** Returns the seconds since an entry of a listing was read. */
  function ageOf (name: string, { value, age }: { value: TypeListing, age: number }): number {
    const at = readBefore(value, name)
    return at === undefined ? age : Math.max(age, secondsSince(at))
  }

  return {
    /**
     * Returns the extension of a name in a fresh listing, or its absence if that is at most `maxAge` seconds old.
     * Returns undefined when the listing is older than `newerThan` seconds, or does not decide it. An entry that was
     * read longer ago than the lifetime of cached data does not decide it.
     */
    fresh (
      type: ExtensionType,
      name: string,
      maxAge: number,
      newerThan: number
    ): CachedRead<Extension | undefined> | undefined {
      const listed = cache.read(keys.list(type))
      if (listed === undefined || !listed.fresh || listed.age > newerThan) return undefined
      const { byName, error, missing, kept, unread } = listed.value
      const value = byName.get(name)
      const age = ageOf(name, listed)
      if (value === undefined) {
        if (error !== undefined || missing || unread.has(name) || listed.age > maxAge) return undefined
      } else if (
        kept.has(name) || age > Math.min(cache.times.ttl, newerThan) ||
        (cache.absentFor(keys.metadata(type, name)) ?? Infinity) < age
      ) {
        // The crawl could not read it or has not read it lately, or a later load has found it absent.
        return undefined
      }
      return { value, age, ttl: Math.min(listed.ttl, cache.times.ttl - age), hit: true, uses: [listUse(type)] }
    },

    /**
     * Returns the result for a name from the listing of a failing upstream: the value that `toValue` makes of its
     * extension, or its absence. Throws `error` when the listing does not decide it.
     */
    stale<T> (
      type: ExtensionType,
      name: string,
      error: RegistryError,
      toValue: (known: Extension) => T | undefined
    ): CachedResult<T | undefined> {
      const listed = cache.read(keys.list(type))
      if (listed === undefined) throw error
      const { byName, proof, unread } = listed.value
      const known = byName.get(name)
      const value = known === undefined ? undefined : toValue(known)
      if (value !== undefined) return { value, age: ageOf(name, listed), ttl: 0, hit: false, error }
      if (known !== undefined || proof === undefined || proof.names.has(name) || unread.has(name)) throw error
      const age = Math.max(0, secondsSince(proof.at))
      if (age > cache.times.ttl + cache.times.staleIfError) throw error
      return { value: undefined, age, ttl: 0, hit: false, error }
    },

    /** Returns whether a listing that is newer than an entry of `age` seconds contradicts it. */
    isNewer (
      type: ExtensionType,
      name: string,
      age: number,
      toValue: (known: Extension) => unknown
    ): boolean {
      const listed = cache.read(keys.list(type))
      if (listed === undefined) return false
      const { byName, kept, proof } = listed.value
      const known = byName.get(name)
      if (known !== undefined) return ageOf(name, listed) < age && !kept.has(name) && toValue(known) !== undefined
      return proof !== undefined && !proof.names.has(name) && secondsSince(proof.at) < age
    },

    /**
     * Returns the age in seconds of newer data, in the listing or in the cached metadata, with a version that the
     * cached versions lack; undefined when they agree. Such cached versions are outdated, although they are fresh.
     */
    ageOfNewVersion (type: ExtensionType, name: string): number | undefined {
      const cached = cache.peek(keys.versions(type, name))
      if (cached === undefined) return undefined
      const isNew = (version: string | undefined, age: number): boolean =>
        version !== undefined && age < cached.age && !cached.value.releases.some(release => release.version === version)
      const described = cache.peek(keys.metadata(type, name))
      if (described !== undefined && isNew(described.value.extension.version, described.age)) return described.age
      const listed = cache.read(keys.list(type))
      if (listed === undefined || listed.value.kept.has(name)) return undefined
      const age = ageOf(name, listed)
      return isNew(listed.value.byName.get(name)?.version, age) ? age : undefined
    },

    /**
     * Returns how a listing limits the load of one name. `standIn`: whether an older result is there if the load fails.
     * `maxAbsence`: an absence that is older than the listing is loaded again when the listing shows the name.
     */
    limits (type: ExtensionType, name: string, isResult: boolean): { standIn: boolean, maxAbsence?: number } {
      const listed = cache.read(keys.list(type))
      if (listed?.value.byName.has(name) === true) return { standIn: isResult, maxAbsence: ageOf(name, listed) }
      return { standIn: listed?.fresh === false && listed.value.proof?.names.has(name) === false }
    }
  }
}
export type ListedNames = ReturnType<typeof createListedNames>

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
