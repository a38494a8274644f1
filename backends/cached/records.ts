import { loadedEntry, type Cache } from '../../plugins/cache/cache.ts'
import { extensionTypes, type Extension, type ExtensionType } from '../../schemas/extension.ts'
import type { SnapshotListing, SnapshotRecord } from '../../schemas/snapshot.ts'
import type { Records } from './backend.ts'
import type { Release } from '../driver/driver.ts'
import { isUnchecked, versionListing, type CacheKeys } from './keys.ts'
import type { Presenter } from './presenter.ts'
import { currentRelease } from '../driver/version.ts'

/** Maximum extensions of one record, so that one line does not block other requests for long. */
const chunk = 500

export interface RecordsDependencies {
  cache: Cache
  keys: CacheKeys
  presenter: Presenter
  /** Returns milliseconds since the epoch. Records outlive the process and its monotonic clock. */
  wallClock?: () => number
}

/**
 * Creates the records of an instance's cached data, and restores them. Restored entries are stale: they are served
 * until the upstream responds, up to the maximum age of stale entries.
 */
export function createRecords ({ cache, keys, presenter, wallClock = Date.now }: RecordsDependencies): Records {
  /** Returns the wall clock's time for a time of the cache's clock. */
  const toWall = (at: number): number => wallClock() - (cache.now() - at)
  /** Returns the cache clock's time for a time of the wall clock; now for a time in the future. */
  const fromWall = (at: number): number => cache.now() - Math.max(0, wallClock() - at)

  /** Returns the saved form of times of reads; undefined for none. */
  const toSaved = (times: ReadonlyMap<string, number>): SnapshotListing['kept'] =>
    times.size === 0 ? undefined : [...times].map(([name, at]) => ({ name, at: toWall(at) }))
  const fromSaved = (times: SnapshotListing['kept'] = []): Map<string, number> =>
    new Map(times.map(({ name, at }) => [name, fromWall(at)]))

  function * listingOf (type: ExtensionType): Generator<SnapshotRecord> {
    const listed = cache.read(keys.list(type))
    if (listed === undefined) return
    const { extensions, missing, unread, proof } = listed.value
    const [kept, unconfirmed] = [toSaved(listed.value.kept), toSaved(listed.value.unconfirmed)]
    yield {
      kind: 'listing',
      type,
      at: toWall(cache.now() - listed.age * 1000),
      missing,
      unread: [...unread],
      ...(kept !== undefined && { kept }),
      ...(unconfirmed !== undefined && { unconfirmed }),
      ...(proof !== undefined && { proof: { at: toWall(proof.at), names: [...proof.names] } })
    }
    for (let first = 0; first < extensions.length; first += chunk) {
      yield { kind: 'extensions', extensions: extensions.slice(first, first + chunk) }
    }
    for (const { name } of extensions) {
      const versions = cache.peek(keys.versions(type, name))
      const extension = cache.peek(keys.metadata(type, name))
      if (versions === undefined || extension === undefined) continue
      yield {
        kind: 'versions',
        at: toWall(cache.now() - versions.age * 1000),
        extension: extension.value.extension,
        releases: [...versions.value.releases]
      }
    }
  }

  function restoreListing (
    { type, at, missing, unread, kept, unconfirmed, proof }: SnapshotListing,
    extensions: readonly Extension[]
  ): void {
    cache.restore(
      loadedEntry(keys.list(type), {
        extensions,
        byName: new Map(extensions.map(extension => [extension.name, extension])),
        error: undefined,
        refusal: undefined,
        missing,
        unread: new Set(unread),
        kept: fromSaved(kept),
        unconfirmed: fromSaved(unconfirmed),
        proof: proof === undefined ? undefined : { names: new Set(proof.names), at: fromWall(proof.at) }
      }),
      fromWall(at)
    )
  }

  return {
    * records (): Generator<SnapshotRecord> {
      for (const type of extensionTypes) yield * listingOf(type)
    },

    restore (records: readonly SnapshotRecord[]): void {
      const listings: Array<{ listing: SnapshotListing, extensions: Extension[] }> = []
      for (const record of records) {
        if (record.kind === 'listing') listings.push({ listing: record, extensions: [] })
        else if (record.kind === 'extensions') listings.at(-1)?.extensions.push(...record.extensions)
        else {
          const { at, extension, releases } = record
          const { type, name } = extension
          const versions = releases.map(release => presenter.toVersion(extension, release as Release))
          const current = currentRelease(releases as Release[])
          // With `unchecked`, the look-up of a checksum for a download completes both entries.
          const unchecked = current?.version === extension.version && isUnchecked(current)
            ? { metadata: extension, release: current }
            : undefined
          cache.restore(
            loadedEntry(keys.metadata(type, name), { extension, ...(unchecked !== undefined && { unchecked }) }),
            fromWall(at)
          )
          cache.restore(
            loadedEntry(keys.versions(type, name), versionListing(releases as Release[], versions)),
            fromWall(at)
          )
        }
      }
      // The cache evicts the oldest entries first: listings are restored last, so that they stay.
      for (const { listing, extensions } of listings) restoreListing(listing, extensions)
    }
  }
}
