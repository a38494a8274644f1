import type { Cache } from '../../plugins/cache/cache.ts'
import type { RegistryError } from '../../lib/errors.ts'
import type { Driver } from '../driver/driver.ts'
import type { Backend } from './backend.ts'
import { createBreaker, createUpstreamCall, passes } from './breaker.ts'
import { createChecksumReads, createLookups } from './checksums.ts'
import { createCrawls, createListings } from './listing.ts'
import { createNamedEntries } from './entries.ts'
import { createListedNames } from './listed-names.ts'
import { createExtensions, createBackendFiles } from './extensions.ts'
import { createCacheKeys } from './keys.ts'
import { createPresenter, type PresenterOptions } from './presenter.ts'
import { createRecords } from './records.ts'
import { createSkips, type Skips } from './skips.ts'

export interface CachedBackendOptions extends Omit<PresenterOptions, 'source'> {
  cache: Cache
  priority: number
  /** Identifies the data that the instance is configured to read. Records with another identity are not used. */
  identity?: string
  /** Called with the error of each crawl; undefined after a crawl without one. */
  onFailure?: (error: RegistryError | undefined) => void
  /** Keeps the items that the driver skips; they are neither logged nor counted if unset. */
  skips?: Skips
}

/**
 * Puts a driver behind the cache. Repeated reads are loaded once. While the upstream fails, its last results are
 * returned. An absence is only returned when the upstream, or its last complete listing, proves it.
 */
export function createCachedBackend (driver: Driver, options: CachedBackendOptions): Backend {
  const { cache, priority } = options
  const { name: instance, source } = driver
  const skips = options.skips ?? createSkips({ instance })
  const keys = createCacheKeys(instance)
  const presenter = createPresenter({ ...options, source, onFile: file => { files.remember(file) } })
  const breaker = createBreaker(() => cache.now())
  const call = createUpstreamCall(instance, breaker)
  let loads = 0
  const parts = { driver, cache, keys, presenter, skips, breaker, call, onChange: () => { loads++ } }
  const checksums = createChecksumReads({
    ...parts,
    // When a checksum file cannot be read, only the checksum of its release is missing: it does not open the circuit.
    call: async request => await call(request, { forgives: () => true, passes })
  })
  const lookups = createLookups({ instance, cache, keys, presenter, checksums })
  const crawls = createCrawls({ ...parts, onRelease: lookups.follow, onEnd: options.onFailure })
  const listings = createListings({ instance, cache, keys, loader: crawls.loader })
  const listed = createListedNames({ cache, keys, listUse: listings.use })
  const entries = createNamedEntries({ ...parts, listed })

  const files = createBackendFiles({
    driver,
    call,
    readRelease: entries.readRelease,
    lookups,
    negativeTtl: cache.times.negativeTtl
  })

  return {
    name: instance,
    source,
    local: driver.local === true,
    priority,
    identity: options.identity ?? instance,
    savedRecords: createRecords({ cache, keys, presenter }),
    get loads () { return loads },
    skipped: () => skips.report(),
    get failure () { return crawls.failure() },
    get circuit () { return breaker.state },

    use: cache.use,
    cachedList: listings.cached,
    list: listings.read,
    ...createExtensions({ driver, cache, keys, listed, entries, lookups }),

    stat: files.stat,
    open: files.open,
    holding: files.holding,

    async ping (signal) {
      await call(async () => { await driver.ping(signal) }, { probe: true, shallow: true })
    },

    refresh: crawls.refresh,

    peek: type => cache.read(keys.list(type))?.value.extensions
  }
}
