import type { Cache, CacheUse, Loader } from '../../plugins/cache/cache.ts'
import { registryError } from '../../lib/errors.ts'
import { combined, type CachedResult } from '../../lib/result.ts'
import { extensionTypes, type ExtensionType } from '../../schemas/extension.ts'
import type { CachedRead, Listing, ReadOptions } from './backend.ts'
import type { CacheKeys } from './keys.ts'
import type { TypeListing } from './listing.ts'

export interface ListingsDependencies {
  instance: string
  cache: Cache
  keys: CacheKeys
  /** Crawls the upstream. */
  loader: Loader
}

/** Creates the merge of the listings of some types. It returns the same object as long as the parts are the same. */
function createMerge () {
  const latest = new WeakMap<readonly ExtensionType[], { parts: readonly TypeListing[], listing: Listing }>()
  return (types: readonly ExtensionType[], parts: readonly TypeListing[]): Listing => {
    const last = latest.get(types)
    if (last?.parts.every((part, at) => part === parts[at]) === true) return last.listing
    const byType = types.map((type, at) => ({ type, part: parts[at] as TypeListing }))
    const listing: Listing = {
      types: new Map(byType.map(({ type, part }) => [type, part.extensions])),
      incomplete: parts.some(({ missing }) => missing),
      unread: new Set(byType.flatMap(({ type, part }) => [...part.unread].map(name => `${type}/${name}`)))
    }
    latest.set(types, { parts, listing })
    return listing
  }
}

/** Creates the reads of an instance's listing, which is cached by type. */
export function createListings ({ instance, cache, keys, loader }: ListingsDependencies) {
  const merge = createMerge()
  const uses = Object.fromEntries(
    extensionTypes.map(type => [type, { key: keys.list(type), loader }])
  ) as Record<ExtensionType, CacheUse<TypeListing>>

  /** Returns the seconds since the oldest entry that a listing keeps from an earlier crawl; at least `age`. */
  function ageWithKept (age: number, { kept }: TypeListing): number {
    if (kept.size === 0) return age
    let oldest = cache.now()
    for (const at of kept.values()) oldest = Math.min(oldest, at)
    return Math.max(age, (cache.now() - oldest) / 1000)
  }

  /** Returns the listings of some types as one result. */
  function toListing (
    types: readonly ExtensionType[],
    results: ReadonlyArray<CachedResult<TypeListing>>
  ): CachedResult<Listing> {
    const parts = results.map(({ value }) => value)
    const { age, ttl, hit } = combined(results)
    const error = results.find(result => result.error !== undefined)?.error ??
      parts.find(part => part.error !== undefined)?.error ??
      parts.find(part => part.refusal !== undefined)?.refusal
    return {
      value: merge(types, parts),
      age: parts.reduce(ageWithKept, age),
      ttl: error === undefined ? ttl : 0,
      hit,
      ...(error !== undefined && { error })
    }
  }

  async function readType (type: ExtensionType, { signal }: ReadOptions): Promise<CachedResult<TypeListing>> {
    const result = await cache.get(keys.list(type), signal === undefined ? loader : { ...loader, signal })
    if (result.value === undefined) throw registryError('internal_error', 'Internal server error', { instance })
    return { ...result, value: result.value }
  }

  return {
    /** Returns how a read of the listing of a type is counted, and how that listing is refreshed. */
    use: (type: ExtensionType): CacheUse => uses[type],

    /** Returns the listing of some types from the cache, if every part of it is fresh; undefined otherwise. */
    cached (types: readonly ExtensionType[]): CachedRead<Listing> | undefined {
      const results: Array<CachedResult<TypeListing>> = []
      for (const type of types) {
        const result = cache.fresh(uses[type].key)
        if (result === undefined) return undefined
        results.push(result)
      }
      return { ...toListing(types, results), uses: types.map(type => uses[type]) }
    },

    /** Returns the listing of some types. Loads it when it is not fresh in the cache. */
    async read (types: readonly ExtensionType[], options: ReadOptions = {}): Promise<CachedResult<Listing>> {
      return toListing(types, await Promise.all(types.map(async type => await readType(type, options))))
    }
  }
}
export type Listings = ReturnType<typeof createListings>
