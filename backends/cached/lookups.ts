import { LRUCache } from 'lru-cache'
import pLimit from 'p-limit'
import type { MaybePromise } from '../../lib/maybe-promise.ts'
import type { Cache } from '../../plugins/cache/cache.ts'
import { late, within } from '../../lib/deadline.ts'
import { isRegistryError, type RegistryError } from '../../lib/errors.ts'
import type { Extension, ExtensionType, ExtensionVersion } from '../../schemas/extension.ts'
import type { ReadOptions } from './backend.ts'
import type { Driver, FileReference, Release } from '../driver/driver.ts'
import { createFailFast } from '../driver/fail-fast.ts'
import type { Presenter } from './presenter.ts'
import { reuse, reuseAll } from '../../lib/reuse.ts'
import type { Skips } from './skips.ts'
import type { Described, CacheKeys, VersionListing } from './keys.ts'
import type { CachedResult } from '../../lib/result.ts'

/** Look-ups of one list of versions that run at once. */
const maxConcurrentLookups = 6
/** Seconds after which a checksum that could not be looked up is tried again. */
const retryAfterSeconds = 30
/** Failed look-ups that are remembered. */
const maxFailures = 10_000
/** Milliseconds that a stale answer waits for a checksum. */
const maxStaleWaitMs = 1000

export interface LookupsDependencies {
  driver: Driver
  cache: Cache
  keys: CacheKeys
  presenter: Presenter
  skips: Skips
  /** Runs a call of the driver behind the circuit breaker; its failure costs the release its checksum only. */
  ask: <T>(call: () => Promise<T>) => Promise<T>
  /** Called when an entry of the cache has changed. */
  onChange: () => void
}

/** Returns whether the checksum of a release's file is not looked up yet. */
export const isUnchecked = ({ file }: Release): boolean => file?.checksumLocator !== undefined

/** Makes the cached form of a list of versions. */
export const versionListing = (releases: readonly Release[], versions: readonly ExtensionVersion[]): VersionListing =>
  ({ releases, versions, unchecked: releases.some(isUnchecked) })

/** An answer that may lack checksums. `reload` reads it again where it is outdated. */
interface Unchecked<T> {
  type: ExtensionType
  name: string
  terms: ReadOptions
  answer: CachedResult<T>
  reload?: () => MaybePromise<CachedResult<T>>
}

/**
 * The releases of a value, and a value made of them with their checksums; `share` is the part of the time that may be
 * waited for.
 */
interface Shape<T, U> {
  of: (value: T) => readonly Release[]
  make: (value: T, releases: readonly Release[]) => U
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

/** Result of one look-up: the file with all that is known of it; undefined when the release has changed upstream. */
type Outcome = FileReference | undefined

/**
 * Looks up checksums that the driver left open, each once for all callers that wait for it. A result is put into the
 * cached metadata and the cached versions, so that both show the same.
 */
export function createLookups ({ driver, cache, keys, presenter, skips, ask, onChange }: LookupsDependencies) {
  const flights = new Map<string, Promise<Outcome>>()
  /** When a look-up failed, in milliseconds of the cache's clock. */
  const failures = new LRUCache<string, number>({ max: maxFailures })
  const keyOf = ({ locator, checksumLocator }: FileReference): string => JSON.stringify([locator, checksumLocator])

  /** Puts the result of a look-up in the place of the file that it was made for. */
  function settle (type: ExtensionType, name: string, before: FileReference, file: FileReference): void {
    const versionsKey = keys.versions(type, name)
    const listing = cache.peek(versionsKey)?.value
    const at = listing?.releases.findIndex(release => release.file === before) ?? -1
    const release = listing?.releases[at]
    if (listing !== undefined && release !== undefined) {
      const checked = { ...release, file }
      const version = reuse(listing.versions[at], presenter.toVersion({ type, name }, checked))
      cache.amend(
        versionsKey,
        listing,
        versionListing(listing.releases.with(at, checked), listing.versions.with(at, version))
      )
    }
    const metadataKey = keys.metadata(type, name)
    const described = cache.peek(metadataKey)?.value
    if (described?.unchecked !== undefined && described.unchecked.release.file === before) {
      const { metadata, release } = described.unchecked
      cache.amend(metadataKey, described, {
        extension: reuse(described.extension, presenter.toExtension(metadata, { ...release, file }))
      })
    }
    onChange()
  }

  async function look (type: ExtensionType, name: string, version: string, file: FileReference): Promise<Outcome> {
    const key = keyOf(file)
    try {
      const skip: typeof skips.add = skipped => { skips.add({ type, name, version, ...skipped }) }
      const found = await ask(async () => {
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
      settle(type, name, file, checked)
      return checked
    } catch (error) {
      failures.set(key, cache.now())
      throw error
    }
  }

  const failedFor = (key: string): number => (cache.now() - (failures.peek(key) ?? -Infinity)) / 1000

  /** Starts a look-up, or joins the one in progress. */
  function fly (type: ExtensionType, name: string, version: string, file: FileReference): Promise<Outcome> {
    const key = keyOf(file)
    const flying = flights.get(key) ?? look(type, name, version, file).finally(() => flights.delete(key))
    flights.set(key, flying)
    // A failure that no caller waits for any more is not an unhandled rejection.
    flying.catch(() => {})
    return flying
  }

  /**
   * Returns releases of one extension with their checksums. Waits at most `patience` milliseconds: a checksum that
   * takes longer is left out, and its look-up continues in the background.
   */
  async function complete (
    type: ExtensionType,
    name: string,
    releases: readonly Release[],
    maxWaitMs: number
  ): Promise<LookedUp> {
    const [few, failFast] = [pLimit(maxConcurrentLookups), createFailFast()]
    let [outdated, waited, retryIn] = [false, false, Infinity]
    const looked = await Promise.all(releases.map(async (release): Promise<Release> => {
      const { version, file } = release
      if (file?.checksumLocator === undefined) return release
      const key = keyOf(file)
      if (failedFor(key) >= retryAfterSeconds) {
        waited = true
        try {
          const checked = await within(
            maxWaitMs,
            few(async () => await failFast(async () => await fly(type, name, version, file))),
            () => late(driver.name)
          )
          if (checked !== undefined) return { ...release, file: checked }
          outdated = true
        } catch (error) {
          if (!isRegistryError(error) || error.code === 'internal_error') throw error
          failures.set(key, cache.now())
        }
      }
      retryIn = Math.min(retryIn, Math.max(0, retryAfterSeconds - failedFor(key)))
      return release
    }))
    return { releases: looked, outdated, waited, retryIn }
  }

  /** Milliseconds that a caller waits for checksums. */
  const maxWaitMs = ({ deadline }: ReadOptions, { error }: { error?: RegistryError }): number =>
    Math.min(deadline?.left() ?? Infinity, error === undefined ? cache.times.budget * 1000 : maxStaleWaitMs)

  /**
   * Completes an answer with the checksums of the releases that it shows. Where a release has changed upstream the
   * extension is read again, once. A checksum that could not be looked up shortens the time for which the answer is
   * fresh.
   */
  async function check<T, U> (unchecked: Unchecked<T>, { of, make, share = 1 }: Shape<T, U>): Promise<CachedResult<U>> {
    const { type, name, terms, answer, reload } = unchecked
    const { releases, outdated, waited, retryIn } = await complete(
      type,
      name,
      of(answer.value),
      maxWaitMs(terms, answer) * share
    )
    if (outdated && reload !== undefined) {
      return await check({ type, name, terms, answer: await reload() }, { of, make, share })
    }
    return {
      ...answer,
      value: make(answer.value, releases),
      ttl: Math.min(answer.ttl, retryIn),
      hit: answer.hit && !waited
    }
  }

  return {
    /**
     * Looks up the checksum of a current release that a crawl has read, where cached versions lack it, so that they
     * agree with the listing. The crawl has read the checksum file: as a rule that costs no request.
     */
    follow (type: ExtensionType, name: string, { version, file }: Release): void {
      const listing = cache.peek(keys.versions(type, name))?.value
      const cached = listing?.unchecked === true
        ? listing.releases.find(release => release.version === version)?.file
        : undefined
      if (cached?.checksumLocator !== undefined && cached.locator === file?.locator) {
        fly(type, name, version, cached).catch(() => {})
      }
    },

    /** Returns an extension with its checksum. A stale one is not worth a wait, for it showed no checksum before. */
    extension (unchecked: Unchecked<Described | undefined>): MaybePromise<CachedResult<Extension | undefined>> {
      const { type, name, answer } = unchecked
      if (answer.value?.unchecked === undefined || answer.error !== undefined) {
        return { ...answer, value: answer.value?.extension }
      }
      return check(unchecked, {
        of: described => described?.unchecked === undefined ? [] : [described.unchecked.release],
        make: (described, [release]) => {
          const { metadata } = described?.unchecked ?? {}
          const cached = cache.peek(keys.metadata(type, name))?.value.extension
          return metadata === undefined || release === undefined
            ? described?.extension
            : reuse(cached, presenter.toExtension(metadata, release))
        }
      })
    },

    /** Returns all versions with their checksums; stale ones as `extension` does. */
    versions (
      unchecked: Unchecked<VersionListing | undefined>
    ): MaybePromise<CachedResult<readonly ExtensionVersion[] | undefined>> {
      const { type, name, answer } = unchecked
      if (answer.value?.unchecked !== true || answer.error !== undefined) {
        return { ...answer, value: answer.value?.versions }
      }
      return check(unchecked, {
        of: listing => listing?.releases ?? [],
        make: (listing, releases) => {
          const cached = cache.peek(keys.versions(type, name))?.value.versions
          return listing && reuseAll(cached, releases.map(release => presenter.toVersion({ type, name }, release)))
        }
      })
    },

    /** Returns a release with its checksum. Waits for half of the time only, for its file is opened afterwards. */
    async release (unchecked: Unchecked<Release | undefined>): Promise<CachedResult<Release | undefined>> {
      const { value } = unchecked.answer
      if (value === undefined || !isUnchecked(value)) return unchecked.answer
      return await check(unchecked, {
        of: release => release === undefined ? [] : [release],
        make: (_, [release]) => release,
        share: 0.5
      })
    }
  }
}
export type Lookups = ReturnType<typeof createLookups>
