import { cacheKey, type CacheKey } from '../../plugins/cache/cache.ts'
import { extensionTypes, type Extension, type ExtensionType, type ExtensionVersion } from '../../schemas/extension.ts'
import type { Metadata, Release } from '../driver/driver.ts'
import type { TypeListing } from './listing.ts'

/**
 * All versions of an extension, as the driver returns them and as the API shows them. `unchecked` is true while a
 * checksum is not looked up.
 */
export interface VersionListing {
  releases: readonly Release[]
  versions: readonly ExtensionVersion[]
  unchecked: boolean
}

/** An extension as it is shown. `unchecked` has its metadata and its release while its checksum is not looked up. */
export interface Described { extension: Extension, unchecked?: { metadata: Metadata, release: Release } }

/** Creates the keys of an instance's entries in the cache. */
export function createCacheKeys (instance: string) {
  const lists = Object.fromEntries(
    extensionTypes.map(type => [type, cacheKey('list', `${instance}:list:${type}`)])
  ) as Record<ExtensionType, CacheKey<TypeListing>>
  return {
    list: (type: ExtensionType): CacheKey<TypeListing> => lists[type],
    metadata: (type: ExtensionType, name: string): CacheKey<Described> =>
      cacheKey('metadata', `${instance}:${type}/${name}`),
    versions: (type: ExtensionType, name: string): CacheKey<VersionListing> =>
      cacheKey('versions', `${instance}:${type}/${name}/versions`)
  }
}
export type CacheKeys = ReturnType<typeof createCacheKeys>
