import { LRUCache } from 'lru-cache'
import pLimit from 'p-limit'
import type { Cache } from '../../plugins/cache/cache.ts'
import { reuse, reuseAll } from '../../lib/reuse.ts'
import type { ExtensionType, Extension, ExtensionVersion } from '../../schemas/extension.ts'
import type { Driver, FileReference, Release } from '../driver/driver.ts'
import { versionListing, isUnchecked, type CacheKeys, type Described, type VersionListing } from './keys.ts'
import type { Presenter } from './presenter.ts'
import type { Skips } from './skips.ts'
import { late, untilAborted, withDeadline } from '../../lib/deadline.ts'
import { isRegistryError } from '../../lib/errors.ts'
import type { CachedResult } from '../../lib/result.ts'
import { createFailFast } from '../driver/fail-fast.ts'
import type { ReadOptions } from './backend.ts'

/** Seconds after which a checksum that could not be looked up is tried again. */
const retryAfterSeconds = 30
/** Maximum failed look-ups that are remembered. */
const maxFailures = 10_000

export interface ChecksumReadsDependencies {
  driver: Driver
  cache: Cache
  keys: CacheKeys
  presenter: Presenter
  skips: Skips
  /**
   * Runs a call of the driver behind the circuit breaker. When it fails, only the checksum of the release is missing.
   */
  call: <T>(call: () => Promise<T>) => Promise<T>
  /** Called when an entry of the cache has changed. */
  onChange: () => void
}

/**
 * Result of one look-up: the file with its checksum, if it has one. Undefined when the release has changed upstream.
 */
type CheckedFile = FileReference | undefined

/**
 * Creates the look-ups of single checksums, each shared by all callers that wait for it. A result is put into the
 * cached metadata and the cached versions, so that both show the same.
 */
export function createChecksumReads (
  { driver, cache, keys, presenter, skips, call, onChange }: ChecksumReadsDependencies
) {
  const flights = new Map<string, Promise<CheckedFile>>()
  /** Times at which look-ups failed, in milliseconds of the cache's clock. */
  const failures = new LRUCache<string, number>({ max: maxFailures })
  const keyOf = ({ locator, checksumLocator }: FileReference): string => JSON.stringify([locator, checksumLocator])

  function putIntoVersions (type: ExtensionType, name: string, before: FileReference, file: FileReference): void {
    const key = keys.versions(type, name)
    const listing = cache.peek(key)?.value
    const at = listing?.releases.findIndex(release => release.file === before) ?? -1
    const release = listing?.releases[at]
    if (listing === undefined || release === undefined) return
    const checked = { ...release, file }
    const version = reuse(listing.versions[at], presenter.toVersion({ type, name }, checked))
    cache.amend(key, listing, versionListing(listing.releases.with(at, checked), listing.versions.with(at, version)))
  }

  function putIntoMetadata (type: ExtensionType, name: string, before: FileReference, file: FileReference): void {
    const key = keys.metadata(type, name)
    const described = cache.peek(key)?.value
    if (described?.unchecked === undefined || described.unchecked.release.file !== before) return
    const { metadata, release } = described.unchecked
    cache.amend(key, described, {
      extension: reuse(described.extension, presenter.toExtension(metadata, { ...release, file }))
    })
  }

  async function lookUp (
    type: ExtensionType,
    name: string,
    version: string,
    file: FileReference
  ): Promise<CheckedFile> {
    const key = keyOf(file)
    try {
      const skip: typeof skips.add = skipped => {
        skips.add({ type, name, version, ...skipped })
      }
      const found = await call(async () => {
        if (driver.checksum === undefined) {
          throw new TypeError('A driver that sets checksumLocator needs a checksum method')
        }
        return await driver.checksum(file, { skip })
      })
      if (found === undefined) {
        failures.set(key, cache.now())
        return undefined
      }
      const { checksumLocator, ...rest } = file
      const checked = { ...rest, ...found }
      failures.delete(key)
      putIntoVersions(type, name, file, checked)
      putIntoMetadata(type, name, file, checked)
      onChange()
      return checked
    } catch (error) {
      failures.set(key, cache.now())
      throw error
    }
  }

  return {
    /** Starts a look-up, or joins the one in progress. */
    start (type: ExtensionType, name: string, version: string, file: FileReference): Promise<CheckedFile> {
      const key = keyOf(file)
      const flight = flights.get(key) ?? lookUp(type, name, version, file).finally(() => flights.delete(key))
      flights.set(key, flight)
      // A failure that no caller waits for any more is not an unhandled rejection.
      flight.catch(() => {})
      return flight
    },

    /** Marks the look-up of a file as failed now. */
    fail (file: FileReference): void {
      failures.set(keyOf(file), cache.now())
    },

    /** Returns the seconds after which a look-up that failed may be tried again; 0 when it may be tried now. */
    retryIn (file: FileReference): number {
      const failedFor = (cache.now() - (failures.peek(keyOf(file)) ?? -Infinity)) / 1000
      return Math.max(0, retryAfterSeconds - failedFor)
    }
  }
}
type ChecksumReads = ReturnType<typeof createChecksumReads>

/** Maximum look-ups of one list of versions that run at once. */
const maxConcurrentLookups = 6
/** Milliseconds that a stale result waits for a checksum. */
const maxStaleWaitMs = 1000

export interface LookupsDependencies extends Pick<ChecksumReadsDependencies, 'cache' | 'keys' | 'presenter'> {
  instance: string
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
  async function lookUpAll (
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
      async deadline => await lookUpAll(type, name, releasesOf(result.value), deadline),
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
