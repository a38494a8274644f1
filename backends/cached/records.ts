import { loadedEntry, type Cache } from '../../plugins/cache/cache.ts'
import { extensionTypes, type Extension, type ExtensionType } from '../../schemas/extension.ts'
import type { SnapshotListing, SnapshotRecord } from '../../schemas/snapshot.ts'
import type { Records } from './backend.ts'
import type { Release } from '../driver/driver.ts'
import { isUnchecked, versionListing } from './checksums.ts'
import type { Presenter } from './presenter.ts'
import type { CacheKeys } from './keys.ts'
import { currentRelease } from '../driver/version.ts'

/** Extensions of one record: a line that is made and read without holding anybody up. */
const chunk = 500

export interface RecordsDependencies {
  cache: Cache
  keys: CacheKeys
  presenter: Presenter
  /** Milliseconds of the epoch: what is remembered outlives the process, and its own clock. */
  wallClock?: () => number
}

/**
 * What an instance has in the cache, as records that outlive the process, and back. What comes back is stale: it stands
 * in until the upstream has been asked, for as long as any old answer may.
 */
export function createRecords ({ cache, keys, presenter, wallClock = Date.now }: RecordsDependencies): Records {
  /** A time of the cache's clock, by the wall clock. */
  const toWall = (at: number): number => wallClock() - (cache.now() - at)
  /** The same back; a time that is yet to come is now. */
  const fromWall = (at: number): number => cache.now() - Math.max(0, wallClock() - at)

  function * listingOf (type: ExtensionType): Generator<SnapshotRecord> {
    const listed = cache.read(keys.list(type))
    if (listed === undefined) return
    const { extensions, missing, unread, proof, kept } = listed.value
    yield {
      kind: 'listing',
      type,
      at: toWall(cache.now() - listed.age * 1000),
      missing,
      unread: [...unread],
      ...(kept.size > 0 && { kept: [...kept].map(([name, at]) => ({ name, at: toWall(at) })) }),
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
    { type, at, missing, unread, kept = [], proof }: SnapshotListing,
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
        kept: new Map(kept.map(({ name, at }) => [name, fromWall(at)])),
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
          // A look-up for a download then completes both entries.
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
      // Last, so that it is not the first to go.
      for (const { listing, extensions } of listings) restoreListing(listing, extensions)
    }
  }
}
