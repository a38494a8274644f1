import { LRUCache } from 'lru-cache'
import type { Cache } from '../../plugins/cache/cache.ts'
import type { CachedResult } from '../../lib/result.ts'
import type { Extension, ExtensionType } from '../../schemas/extension.ts'
import type { Driver, Artifact, FileReference, OpenOptions, Release } from '../driver/driver.ts'
import type { Backend, CachedRead, ReadOptions, VersionName } from './backend.ts'
import type { NamedEntries } from './entries.ts'
import type { ListedNames } from './listed-names.ts'
import type { CacheKeys, Described } from './keys.ts'
import type { Lookups } from './checksums.ts'
import { isUpstreamResponse } from '../driver/fail-fast.ts'
import { passes, type UpstreamCall } from './breaker.ts'

export interface ExtensionsDependencies {
  driver: Driver
  cache: Cache
  keys: CacheKeys
  listed: ListedNames
  entries: NamedEntries
  lookups: Lookups
}

/**
 * Creates the reads of single extensions: from the listing, or from the cached entries when those are newer. Missing
 * entries are loaded.
 */
export function createExtensions (
  { driver, cache, keys, listed, entries, lookups }: ExtensionsDependencies
): Pick<Backend, 'cachedFind' | 'find' | 'has' | 'cachedVersions' | 'versions'> {
  const covers = (type: ExtensionType, name: string): boolean => driver.covers?.(type, name) !== false
  /** The result for a name that the instance cannot have by its configuration. */
  const outside = { value: undefined, age: 0, ttl: cache.times.ttl, hit: true, uses: [] }

  /** Counts a read of the cache that is returned. */
  function counted<T> (read: CachedRead<T>): CachedRead<T> {
    cache.use(read.uses)
    return read
  }

  /** Returns the extension of a name in the listing, or its absence, unless the cached metadata are newer. */
  const listedMetadata = (
    type: ExtensionType,
    name: string,
    maxAge = cache.times.ttl
  ): CachedRead<Extension | undefined> | undefined =>
    listed.fresh(type, name, maxAge, cache.read(keys.metadata(type, name))?.age ?? Infinity)

  /** Returns the extension of a name in the listing, or its absence, unless the cached versions are newer. */
  const listedVersions = (
    type: ExtensionType,
    name: string,
    maxAge = cache.times.ttl
  ): CachedRead<Extension | undefined> | undefined =>
    listed.fresh(type, name, maxAge, cache.read(keys.versions(type, name))?.age ?? Infinity)

  const readMetadata = async (
    type: ExtensionType,
    name: string,
    options: ReadOptions & { whole?: boolean }
  ): Promise<CachedResult<Described | undefined>> =>
    await entries.readMetadata(type, name, { maxAge: cache.times.ttl, ...options })

  return {
    cachedFind (type, name) {
      if (!covers(type, name)) return outside
      const found = listedMetadata(type, name)
      if (found !== undefined) return found
      const described = entries.cachedMetadata(type, name, cache.times.ttl)
      if (described === undefined || described.value.unchecked !== undefined) return undefined
      return { ...described, value: described.value.extension }
    },

    async find (type, name, options = {}) {
      if (!covers(type, name)) return outside
      const found = listedMetadata(type, name, options.maxAge)
      if (found !== undefined) return counted(found)
      return await lookups.extension({
        type,
        name,
        options,
        result: await readMetadata(type, name, options),
        reload: async () => await readMetadata(type, name, { ...options, maxAge: -1 })
      })
    },

    async has (type, name, options = {}) {
      if (!covers(type, name)) return outside
      const found = listedMetadata(type, name, options.maxAge)
      // A download reads the versions next.
      const result = found === undefined ? await readMetadata(type, name, { ...options, whole: true }) : counted(found)
      return { ...result, value: result.value && true }
    },

    cachedVersions (type, name) {
      if (!covers(type, name)) return outside
      const found = listedVersions(type, name)
      if (found !== undefined && found.value === undefined) return { ...found, value: undefined }
      const listing = entries.cachedVersions(type, name, cache.times.ttl)
      if (listing === undefined || listing.value.unchecked) return undefined
      return { ...listing, value: listing.value.versions, uses: [...found?.uses ?? [], ...listing.uses] }
    },

    async versions (type, name, options = {}) {
      if (!covers(type, name)) return outside
      const { maxAge = cache.times.ttl } = options
      const found = listedVersions(type, name, maxAge)
      if (found !== undefined) cache.use(found.uses)
      if (found !== undefined && found.value === undefined) return { ...found, value: undefined }
      return await lookups.versions({
        type,
        name,
        options,
        result: await entries.readVersions(type, name, { ...options, maxAge }),
        reload: async () => await entries.readVersions(type, name, { ...options, maxAge: -1 })
      })
    }
  }
}

export interface BackendFilesDependencies {
  driver: Pick<Driver, 'open'>
  call: UpstreamCall
  readRelease: NamedEntries['readRelease']
  lookups: Pick<Lookups, 'release'>
  /** Maximum age of the cached entry that an absence may rest on, in seconds. */
  negativeTtl: number
}

/** Maximum number of digests whose files are kept in memory. */
const maxDigests = 10_000

/** Creates the reads of the files of one instance. */
export function createBackendFiles (
  { driver, call, readRelease, lookups, negativeTtl }: BackendFilesDependencies
) {
  const holders = new LRUCache<string, FileReference>({ max: maxDigests })

  /** Returns the release of a version. Before it is absent, the cached versions are as young as a 404 requires. */
  async function freshRelease (
    type: ExtensionType,
    name: string,
    version: string,
    { signal }: ReadOptions = {}
  ): Promise<CachedResult<Release | undefined>> {
    const options = signal === undefined ? {} : { signal }
    const cached = await readRelease(type, name, version, options)
    if (cached.value !== undefined || !cached.hit) return cached
    return await readRelease(type, name, version, { ...options, maxAge: negativeTtl })
  }

  /** Returns the release of a version with the checksum of its file. */
  const checkedRelease = async (
    type: ExtensionType,
    name: string,
    version: string,
    options: ReadOptions = {}
  ): Promise<CachedResult<Release | undefined>> =>
    await lookups.release({
      type,
      name,
      options,
      since: performance.now(),
      result: await freshRelease(type, name, version, options),
      reload: async () => await readRelease(type, name, version, { ...options, maxAge: -1 })
    })

  const openFile = async (
    file: FileReference,
    options: OpenOptions,
    of: VersionName | undefined
  ): Promise<Artifact | undefined> =>
    await call(async () => await driver.open(file, options), {
      forgives: error => options.signal.aborted || isUpstreamResponse(error),
      passes,
      ...(of !== undefined && { extension: `${of.type}/${of.name}` })
    })

  const stat: Backend['stat'] = async (type, name, version, options) => {
    const { value: found, ...cached } = await checkedRelease(type, name, version, options)
    return {
      ...cached,
      value: found && { published_at: found.published_at, ...(found.file !== undefined && { file: found.file }) }
    }
  }

  const open: Backend['open'] = async (file, options, of) => {
    const artifact = await openFile(file, options, of)
    if (artifact !== undefined || of === undefined) return artifact
    const { type, name, version } = of
    // The upstream may have the file under another address, because the release was replaced.
    const { value, error } = await readRelease(type, name, version, { maxAge: -1 })
    if (error !== undefined) throw error
    if (value?.file === undefined || value.file.locator === file.locator) return undefined
    const { value: replaced } = await checkedRelease(type, name, version)
    return replaced?.file && await openFile(replaced.file, options, of)
  }

  return {
    /** Keeps a file in memory for `holding`. */
    remember (file: FileReference): void {
      if (file.checksum !== undefined) holders.set(file.checksum, file)
    },
    holding: (checksum: string): FileReference | undefined => holders.get(checksum),
    stat,
    open
  }
}
