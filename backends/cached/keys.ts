import { cacheKey, type CacheKey } from '../../plugins/cache/cache.ts'
import type { RegistryError } from '../../lib/errors.ts'
import { extensionTypes, type Extension, type ExtensionType, type ExtensionVersion } from '../../schemas/extension.ts'
import type { Metadata, Release } from '../driver/driver.ts'

/** The listing of one type, as it is cached. */
export interface TypeListing {
  extensions: readonly Extension[]
  byName: ReadonlyMap<string, Extension>
  /** Error of a part that could not be read. Earlier entries of that part are in `extensions`, as stale ones. */
  error: RegistryError | undefined
  /** Whether `extensions` lacks entries, whose names may be unknown. */
  missing: boolean
  /** Error of a refused repository whose earlier entry is kept. Other names are not affected. */
  refusal: RegistryError | undefined
  /** Names that could not be read, or are refused, and have no earlier entry. */
  unread: ReadonlySet<string>
  /** Names of the stale entries that are kept, and when each was read (milliseconds of the cache's clock). */
  kept: ReadonlyMap<string, number>
  /**
   * Names of the entries that the crawl neither read nor found confirmed, and when each was read (milliseconds of the
   * cache's clock). They are not stale, but a request for one of these names needs newer data.
   */
  unconfirmed: ReadonlyMap<string, number>
  /**
   * Names that the last complete listing does not prove absent, and when that was (milliseconds of the cache's clock).
   */
  proof: { names: ReadonlySet<string>, at: number } | undefined
}

/**
 * Returns when the entry of a name was read that is older than its listing (milliseconds of the cache's clock);
 * undefined for an entry as new as its listing.
 */
export const readBefore = ({ kept, unconfirmed }: TypeListing, name: string): number | undefined =>
  kept.get(name) ?? unconfirmed.get(name)

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

/** Returns whether the checksum of a release's file is not looked up yet. */
export const isUnchecked = ({ file }: Release): boolean => file?.checksumLocator !== undefined

/** Makes the cached form of a list of versions. */
export const versionListing = (
  releases: readonly Release[],
  versions: readonly ExtensionVersion[]
): VersionListing => ({ releases, versions, unchecked: releases.some(isUnchecked) })

/** Creates the keys of an instance's entries in the cache. */
export function createCacheKeys (instance: string) {
  const lists = Object.fromEntries(
    extensionTypes.map(type => [type, cacheKey('list', `${instance}:list:${type}`)])
  ) as Record<ExtensionType, CacheKey<TypeListing>>
  const make = (type: ExtensionType, name: string) => ({
    type,
    name,
    metadata: cacheKey<Described>('metadata', `${instance}:${type}/${name}`),
    versions: cacheKey<VersionListing>('versions', `${instance}:${type}/${name}/versions`)
  })
  let last = make('provider', '')
  /** Returns the keys of a name. One request reads several entries of the same name. */
  const named = (type: ExtensionType, name: string) =>
    last.name === name && last.type === type ? last : (last = make(type, name))
  return {
    list: (type: ExtensionType): CacheKey<TypeListing> => lists[type],
    metadata: (type: ExtensionType, name: string): CacheKey<Described> => named(type, name).metadata,
    versions: (type: ExtensionType, name: string): CacheKey<VersionListing> => named(type, name).versions
  }
}
export type CacheKeys = ReturnType<typeof createCacheKeys>
