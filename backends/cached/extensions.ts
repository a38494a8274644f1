import type { Cache } from '../../plugins/cache/cache.ts'
import type { CachedResult } from '../../lib/result.ts'
import type { Extension, ExtensionType } from '../../schemas/extension.ts'
import type { Driver } from '../driver/driver.ts'
import type { Backend, CachedRead, ReadOptions } from './backend.ts'
import type { NamedEntries, ListedNames } from './entries.ts'
import type { CacheKeys, Described } from './keys.ts'
import type { Lookups } from './checksums.ts'

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
    options: ReadOptions
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
      const result = found === undefined ? await readMetadata(type, name, options) : counted(found)
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
