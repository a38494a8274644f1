import { LRUCache } from 'lru-cache'
import type { Cache } from '../../plugins/cache/cache.ts'
import { reuse } from '../../lib/reuse.ts'
import type { ExtensionType } from '../../schemas/extension.ts'
import type { Driver, FileReference } from '../driver/driver.ts'
import { type CacheKeys, versionListing } from './keys.ts'
import type { Presenter } from './presenter.ts'
import type { Skips } from './skips.ts'

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
    cache.amend(
      key,
      listing,
      versionListing(listing.releases.with(at, checked), listing.versions.with(at, version))
    )
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
export type ChecksumReads = ReturnType<typeof createChecksumReads>
