import pLimit from 'p-limit'
import type { Cache } from '../../plugins/cache/cache.ts'
import { late, untilAborted, withDeadline } from '../../lib/deadline.ts'
import { isRegistryError } from '../../lib/errors.ts'
import type { CachedResult } from '../../lib/result.ts'
import { reuse, reuseAll } from '../../lib/reuse.ts'
import type { Extension, ExtensionType, ExtensionVersion } from '../../schemas/extension.ts'
import { createFailFast } from '../driver/fail-fast.ts'
import type { Release } from '../driver/driver.ts'
import type { ReadOptions } from './backend.ts'
import type { ChecksumReads } from './checksums.ts'
import { isUnchecked, type Described, type CacheKeys, type VersionListing } from './keys.ts'
import type { Presenter } from './presenter.ts'

/** Maximum look-ups of one list of versions that run at once. */
const maxConcurrentLookups = 6
/** Milliseconds that a stale result waits for a checksum. */
const maxStaleWaitMs = 1000

export interface LookupsDependencies {
  instance: string
  cache: Cache
  keys: CacheKeys
  presenter: Presenter
  checksums: ChecksumReads
}

/** A result that may lack checksums. `reload` reads it again where it is outdated. */
export interface Unchecked<T> {
  type: ExtensionType
  name: string
  options: ReadOptions
  result: CachedResult<T>
  reload?: () => Promise<CachedResult<T>>
  /** When the read began, in milliseconds of `performance.now()`; now if unset. */
  since?: number
}

/** The releases of a value, and a value made of them with their checksums. */
interface Shape<T, U> {
  releasesOf: (value: T) => readonly Release[]
  make: (value: T, releases: readonly Release[]) => U
  /** Part of the time of the read that is spent on checksums: all of it if unset. */
  share?: number
}

/** Releases with their checksums, as far as they could be looked up. */
interface LookedUp {
  releases: readonly Release[]
  /** Whether a release has changed upstream since it was read. */
  outdated: boolean
  /** Whether a look-up was waited for. */
  waited: boolean
  /** Seconds after which a failed look-up is tried again; infinite when no look-up failed. */
  retryIn: number
}

/** Creates the reads that complete cached results with the checksums that the driver left open. */
export function createLookups ({ instance, cache, keys, presenter, checksums }: LookupsDependencies) {
  /**
   * Returns releases of one extension with their checksums. A checksum that takes longer than `signal` is skipped, and
   * its look-up continues in the background.
   */
  async function lookUp (
    type: ExtensionType,
    name: string,
    releases: readonly Release[],
    signal: AbortSignal
  ): Promise<LookedUp> {
    const [limit, failFast] = [pLimit(maxConcurrentLookups), createFailFast()]
    let [outdated, waited, retryIn] = [false, false, Infinity]
    const lookedUp = await Promise.all(releases.map(async (release): Promise<Release> => {
      const { version, file } = release
      if (file?.checksumLocator === undefined) return release
      if (checksums.retryIn(file) === 0) {
        waited = true
        const lookup = limit(async () => await failFast(async () => await checksums.start(type, name, version, file)))
        try {
          const checked = await untilAborted(lookup, signal)
          if (checked !== undefined) return { ...release, file: checked }
          outdated = true
        } catch (error) {
          if (!isRegistryError(error) || error.code === 'internal_error') throw error
          checksums.fail(file)
        }
      }
      retryIn = Math.min(retryIn, checksums.retryIn(file))
      return release
    }))
    return { releases: lookedUp, outdated, waited, retryIn }
  }

  /** Returns the milliseconds that a result waits for checksums. */
  function maxWaitMs ({ result, since = performance.now() }: Unchecked<unknown>, share: number): number {
    const leftMs = cache.times.budget * 1000 - (performance.now() - since)
    return (result.error === undefined ? leftMs : Math.min(leftMs, maxStaleWaitMs)) * share
  }

  /**
   * Completes a result with the checksums of the releases that it shows. Where a release has changed upstream, the
   * extension is read again, once. A checksum that could not be looked up shortens the time for which the result is
   * fresh.
   */
  async function complete<T, U> (unchecked: Unchecked<T>, shape: Shape<T, U>): Promise<CachedResult<U>> {
    const { type, name, options: { signal }, result, reload, ...rest } = unchecked
    const { releasesOf, make, share = 1 } = shape
    const { releases, outdated, waited, retryIn } = await withDeadline(
      maxWaitMs(unchecked, share),
      () => late(instance),
      async deadline => await lookUp(type, name, releasesOf(result.value), deadline),
      signal
    )
    if (outdated && reload !== undefined) {
      return await complete({ type, name, options: unchecked.options, result: await reload(), ...rest }, shape)
    }
    return {
      ...result,
      value: make(result.value, releases),
      ttl: Math.min(result.ttl, retryIn),
      hit: result.hit && !waited
    }
  }

  return {
    /**
     * Looks up the checksum of a current release that a crawl has read, where cached versions lack it, so that they
     * agree with the listing. The crawl has read the checksum file, so that this usually needs no request.
     */
    follow (type: ExtensionType, name: string, { version, file }: Release): void {
      const listing = cache.peek(keys.versions(type, name))?.value
      const cached = listing?.unchecked === true
        ? listing.releases.find(release => release.version === version)?.file
        : undefined
      if (cached?.checksumLocator !== undefined && cached.locator === file?.locator) {
        void checksums.start(type, name, version, cached)
      }
    },

    /** Returns an extension with its checksum. A stale one does not wait: it was shown without a checksum before. */
    async extension (unchecked: Unchecked<Described | undefined>): Promise<CachedResult<Extension | undefined>> {
      const { type, name, result } = unchecked
      if (result.value?.unchecked === undefined || result.error !== undefined) {
        return { ...result, value: result.value?.extension }
      }
      return await complete(unchecked, {
        releasesOf: described => described?.unchecked === undefined ? [] : [described.unchecked.release],
        make: (described, [release]) => {
          const { metadata } = described?.unchecked ?? {}
          const cached = cache.peek(keys.metadata(type, name))?.value.extension
          return metadata === undefined || release === undefined
            ? described?.extension
            : reuse(cached, presenter.toExtension(metadata, release))
        }
      })
    },

    /** Returns all versions with their checksums. Stale versions do not wait, as in `extension`. */
    async versions (
      unchecked: Unchecked<VersionListing | undefined>
    ): Promise<CachedResult<readonly ExtensionVersion[] | undefined>> {
      const { type, name, result } = unchecked
      if (result.value?.unchecked !== true || result.error !== undefined) {
        return { ...result, value: result.value?.versions }
      }
      return await complete(unchecked, {
        releasesOf: listing => listing?.releases ?? [],
        make: (listing, releases) => {
          const cached = cache.peek(keys.versions(type, name))?.value.versions
          return listing && reuseAll(cached, releases.map(release => presenter.toVersion({ type, name }, release)))
        }
      })
    },

    /** Returns a release with its checksum. Half of the time that is left is kept for opening its file. */
    async release (unchecked: Unchecked<Release | undefined>): Promise<CachedResult<Release | undefined>> {
      const { value } = unchecked.result
      if (value === undefined || !isUnchecked(value)) return unchecked.result
      return await complete(unchecked, {
        releasesOf: release => release === undefined ? [] : [release],
        make: (_, [release]) => release,
        share: 0.5
      })
    }
  }
}
export type Lookups = ReturnType<typeof createLookups>
