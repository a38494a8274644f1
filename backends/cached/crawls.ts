import { loadedEntry, type Cache, type LoadedEntry, type Loader } from '../../plugins/cache/cache.ts'
import { isRegistryError, type RegistryError } from '../../lib/errors.ts'
import { forEachYielding } from '../../lib/yielding.ts'
import { extensionTypes, type ExtensionType } from '../../schemas/extension.ts'
import type { Crawl, Driver, Release } from '../driver/driver.ts'
import type { Breaker, UpstreamCall } from './breaker.ts'
import type { CacheKeys } from './keys.ts'
import { toListing, type TypeListing } from './listing.ts'
import type { Presenter } from './presenter.ts'
import type { Skips } from './skips.ts'

/** Milliseconds in which an upstream responds to a ping after failures, before it is crawled. */
const pingTimeoutMs = 5000
/** Maximum seconds for which an incomplete result is fresh at first. */
const incompleteTtlSeconds = 30

export interface CrawlsDependencies {
  driver: Driver
  cache: Cache
  keys: CacheKeys
  presenter: Presenter
  skips: Skips
  breaker: Breaker
  call: UpstreamCall
  /** Called with each current release that a crawl has read. */
  onRelease: (type: ExtensionType, name: string, release: Release) => void
  /** Called when entries of the cache have changed. */
  onChange: () => void
  /** Called after each crawl with its error; undefined when it has none. */
  onEnd?: ((failure: RegistryError | undefined) => void) | undefined
}

/** Creates the crawls of an instance: one at a time, whose results are the cached listings of all types. */
export function createCrawls (dependencies: CrawlsDependencies) {
  const { driver, cache, keys, presenter, skips, breaker, call, onRelease, onChange, onEnd } = dependencies
  let failure: RegistryError | undefined
  let incompleteInARow = 0

  /** Reads the whole upstream. After failures a ping is sent first, because a crawl takes long. */
  async function readUpstream (): Promise<Crawl> {
    if (breaker.state !== 'closed') {
      await call(async () => { await driver.ping(AbortSignal.timeout(pingTimeoutMs)) }, { shallow: true })
    }
    const { skip, end } = skips.crawl()
    const crawl = await call(() => driver.list({ skip }), { slow: true })
    end(crawl)
    return crawl
  }

  /** Returns the listings of all types that a crawl has found. */
  async function toListings (crawl: Crawl): Promise<Array<{ type: ExtensionType, listing: TypeListing }>> {
    const listings: Array<{ type: ExtensionType, listing: TypeListing }> = []
    for (const type of extensionTypes) {
      const earlier = cache.read(keys.list(type))
      listings.push({ type, listing: await toListing(type, crawl, earlier, cache, presenter.toExtension) })
    }
    return listings
  }

  const isIncomplete = ({ error, missing }: TypeListing): boolean => error !== undefined || missing

  /** Returns the seconds for which an incomplete listing is fresh: doubled with each incomplete crawl in a row. */
  const incompleteTtl = (): number =>
    Math.min(incompleteTtlSeconds * 2 ** (incompleteInARow - 1), cache.times.ttl)

  async function crawlUpstream (): Promise<LoadedEntry[]> {
    const crawl = await readUpstream()
    const listings = await toListings(crawl)
    incompleteInARow = listings.some(({ listing }) => isIncomplete(listing)) ? incompleteInARow + 1 : 0
    failure = crawl.failed[0]?.error ?? (crawl.expected === true ? undefined : crawl.truncatedBy)
    onChange()
    await forEachYielding(crawl.found, ({ metadata: { type, name }, release }) => { onRelease(type, name, release) })
    onEnd?.(failure)
    return listings.map(({ type, listing }) =>
      loadedEntry(keys.list(type), listing, isIncomplete(listing) ? incompleteTtl() : undefined)
    )
  }

  async function load (): Promise<LoadedEntry[]> {
    try {
      return await crawlUpstream()
    } catch (error) {
      if (isRegistryError(error)) {
        failure = error
        onEnd?.(error)
      }
      throw error
    }
  }

  const loader: Loader = {
    instance: driver.name,
    flight: `${driver.name}:list`,
    load,
    blocked: () => breaker.blocked()
  }

  return {
    loader,

    /** Returns why the last crawl failed, at least in part; undefined when it did not. */
    failure: (): RegistryError | undefined => failure,

    /** Starts a crawl in the background, unless the last one is young, or no request is sent to the upstream. */
    refresh ({ recovered = false }: { recovered?: boolean } = {}): void {
      // A second incomplete crawl in a row is not repeated at once: the listings stay fresh for longer each time.
      const again = failure !== undefined && (recovered || incompleteInARow <= 1)
      // One crawl reads all types. It is needed when the listing of any type is not in the cache.
      const type = extensionTypes.find(type => cache.read(keys.list(type)) === undefined) ?? extensionTypes[0]
      cache.refresh(keys.list(type), again ? { ...loader, maxAge: -1 } : loader)
    }
  }
}
