import type { Cache, CacheUse } from '../../plugins/cache/cache.ts'
import type { RegistryError } from '../../lib/errors.ts'
import type { CachedResult } from '../../lib/result.ts'
import type { Extension, ExtensionType } from '../../schemas/extension.ts'
import type { CachedRead } from './backend.ts'
import { readBefore, type CacheKeys, type TypeListing } from './keys.ts'

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
