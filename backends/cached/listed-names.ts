import type { Cache, CacheUse } from '../../plugins/cache/cache.ts'
import type { RegistryError } from '../../lib/errors.ts'
import type { CachedResult } from '../../lib/result.ts'
import type { Extension, ExtensionType } from '../../schemas/extension.ts'
import type { CachedRead } from './backend.ts'
import type { CacheKeys } from './keys.ts'

export interface ListedNamesDependencies {
  cache: Cache
  keys: CacheKeys
  /** Returns how a read of the listing of a type is counted, and how that listing is refreshed. */
  listUse: (type: ExtensionType) => CacheUse
}

/** Creates the reads of single names from the cached listings of an instance. They never load a listing. */
export function createListedNames ({ cache, keys, listUse }: ListedNamesDependencies) {
  const secondsSince = (at: number): number => (cache.now() - at) / 1000

  return {
    /**
     * Returns the extension of a name in a fresh listing, or its absence if that is at most `maxAge` seconds old.
     * Returns undefined when the listing is older than `newerThan` seconds, or does not decide it.
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
      if (value === undefined) {
        if (error !== undefined || missing || unread.has(name) || listed.age > maxAge) return undefined
      } else if (kept.has(name) || (cache.absentFor(keys.metadata(type, name)) ?? Infinity) < listed.age) {
        // The crawl could not read it, or a later load has found it absent.
        return undefined
      }
      return { value, age: listed.age, ttl: listed.ttl, hit: true, uses: [listUse(type)] }
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
      const { byName, kept, proof, unread } = listed.value
      const known = byName.get(name)
      const value = known === undefined ? undefined : toValue(known)
      if (value !== undefined) {
        const since = kept.get(name)
        return { value, age: since === undefined ? listed.age : secondsSince(since), ttl: 0, hit: false, error }
      }
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
      if (known !== undefined) return listed.age < age && !kept.has(name) && toValue(known) !== undefined
      return proof !== undefined && !proof.names.has(name) && secondsSince(proof.at) < age
    },

    /**
     * Returns the age in seconds of a newer listing with a version that the cached versions lack; undefined when they
     * agree. Such cached versions are outdated, although they are fresh.
     */
    ageOfNewVersion (type: ExtensionType, name: string): number | undefined {
      const cached = cache.peek(keys.versions(type, name))
      const listed = cache.read(keys.list(type))
      const version = listed?.value.kept.has(name) === true ? undefined : listed?.value.byName.get(name)?.version
      if (cached === undefined || listed === undefined || version === undefined || listed.age >= cached.age) {
        return undefined
      }
      return cached.value.releases.some(release => release.version === version) ? undefined : listed.age
    },

    /**
     * Returns how a listing limits the load of one name. `standIn`: whether an older result is there if the load fails.
     * `maxAbsence`: an absence that is older than the listing is loaded again when the listing shows the name.
     */
    limits (type: ExtensionType, name: string, isResult: boolean): { standIn: boolean, maxAbsence?: number } {
      const listed = cache.read(keys.list(type))
      if (listed?.value.byName.has(name) === true) return { standIn: isResult, maxAbsence: listed.age }
      return { standIn: listed?.fresh === false && listed.value.proof?.names.has(name) === false }
    }
  }
}
export type ListedNames = ReturnType<typeof createListedNames>
