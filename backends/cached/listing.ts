import {
  loadedEntry,
  type Cache,
  type CacheKey,
  type CacheUse,
  type Loader,
  type LoadedEntry
} from '../../plugins/cache/cache.ts'
import { extensionTypes, type Extension, type ExtensionType } from '../../schemas/extension.ts'
import type { Crawl, Metadata, Release, Driver } from '../driver/driver.ts'
import { forEachYielding, sortYielding } from '../../lib/yielding.ts'
import { reuse } from '../../lib/reuse.ts'
import { combined, type CachedResult } from '../../lib/result.ts'
import { readBefore, type TypeListing, type CacheKeys } from './keys.ts'
import { registryError, isRegistryError, type RegistryError } from '../../lib/errors.ts'
import type { CachedRead, Listing, ReadOptions } from './backend.ts'
import type { Breaker, UpstreamCall } from './breaker.ts'
import type { Presenter } from './presenter.ts'
import type { Skips } from './skips.ts'

/** Compares in the order of lists: names by code point. */
const byName = (a: { name: string }, b: { name: string }): number => a.name < b.name ? -1 : 1

/**
 * Returns the listing of one type after a crawl. Entries that could not be read are kept as stale ones, up to the
 * maximum age of stale entries. A truncated crawl removes only extensions that are certainly absent. A crawl that is
 * not complete keeps the last proof. Objects that have not changed are reused.
 */
async function toListing (
  type: ExtensionType,
  crawl: Crawl,
  earlier: Pick<CachedResult<TypeListing>, 'value' | 'age'> | undefined,
  { now, times }: Cache,
  toExtension: (metadata: Metadata, release: Release) => Extension
): Promise<TypeListing> {
  const failed = crawl.failed.filter(repository => repository.type === type)
  const refused = crawl.refused?.filter(repository => repository.type === type) ?? []
  const before = earlier?.value
  const at = now()
  const oldest = at - (times.ttl + times.staleIfError) * 1000
  const kept = new Map<string, number>()
  const unconfirmed = new Map<string, number>()
  const unread = new Set<string>()
  const extensions = new Map<string, Extension>()
  await forEachYielding(crawl.found, ({ metadata, release, age }) => {
    if (metadata.type === type) {
      extensions.set(metadata.name, reuse(before?.byName.get(metadata.name), toExtension(metadata, release)))
      if (age !== undefined) unconfirmed.set(metadata.name, at - age * 1000)
    }
  })
  const keep = (name: string): boolean => {
    const known = before?.byName.get(name)
    if (before === undefined || known === undefined) return false
    const since = readBefore(before, name) ?? at - (earlier?.age ?? Infinity) * 1000
    if (since < oldest) return false
    extensions.set(name, known)
    kept.set(name, since)
    return true
  }
  for (const { name } of [...failed, ...refused]) if (!keep(name)) unread.add(name)
  // A truncated crawl did not read every repository: extensions that it did not find may still exist.
  if (crawl.truncated === true) {
    const gone = new Set(crawl.absent?.filter(extension => extension.type === type).map(({ name }) => name))
    for (const name of before?.byName.keys() ?? []) if (!extensions.has(name) && !gone.has(name)) keep(name)
  }
  const complete = failed.length === 0 && crawl.truncated !== true
  const sorted = await sortYielding(extensions.values(), byName)
  const names = new Set(unread)
  if (complete) await forEachYielding(extensions.keys(), name => { names.add(name) })
  // Unchanged extensions are the earlier objects here.
  const isSame = before?.extensions.length === sorted.length &&
    sorted.every((extension, at) => extension === before.extensions[at])
  return {
    extensions: isSame ? before.extensions : sorted,
    byName: extensions,
    error: failed[0]?.error ?? crawl.truncatedBy,
    missing: crawl.truncated === true || failed.some(({ name }) => unread.has(name)),
    refusal: refused.find(({ name }) => kept.has(name))?.error,
    unread,
    kept,
    unconfirmed,
    proof: complete ? { names, at } : before?.proof
  }
}

export interface ListingsDependencies {
  instance: string
  cache: Cache
  keys: CacheKeys
  /** Crawls the upstream. */
  loader: Loader
}

/** Creates the merge of the listings of some types. It returns the same object as long as the parts are the same. */
function createMerge () {
  const latest = new WeakMap<readonly ExtensionType[], { parts: readonly TypeListing[], listing: Listing }>()
  return (types: readonly ExtensionType[], parts: readonly TypeListing[]): Listing => {
    const last = latest.get(types)
    if (last?.parts.every((part, at) => part === parts[at]) === true) return last.listing
    const byType = types.map((type, at) => ({ type, part: parts[at] as TypeListing }))
    const listing: Listing = {
      types: new Map(byType.map(({ type, part }) => [type, part.extensions])),
      incomplete: parts.some(({ missing }) => missing),
      unread: new Set(byType.flatMap(({ type, part }) => [...part.unread].map(name => `${type}/${name}`)))
    }
    latest.set(types, { parts, listing })
    return listing
  }
}

/** Creates the function that returns the uses and the keys of some types, the same arrays each time. */
function createUses (uses: Readonly<Record<ExtensionType, CacheUse<TypeListing>>>) {
  const made = new WeakMap<readonly ExtensionType[], {
    used: ReadonlyArray<CacheUse<TypeListing>>,
    keys: ReadonlyArray<CacheKey<TypeListing>>
  }>()
  return (types: readonly ExtensionType[]) => {
    let found = made.get(types)
    if (found === undefined) {
      const used = types.map(type => uses[type])
      made.set(types, found = { used, keys: used.map(({ key }) => key) })
    }
    return found
  }
}

/** Creates the reads of an instance's listing, which is cached by type. */
export function createListings ({ instance, cache, keys, loader }: ListingsDependencies) {
  const merge = createMerge()
  const uses = Object.fromEntries(
    extensionTypes.map(type => [type, { key: keys.list(type), loader }])
  ) as Record<ExtensionType, CacheUse<TypeListing>>
  const usesOf = createUses(uses)

  /** Returns the seconds since the oldest entry that a listing keeps from an earlier crawl; at least `age`. */
  function ageWithKept (age: number, { kept }: TypeListing): number {
    if (kept.size === 0) return age
    let oldest = cache.now()
    for (const at of kept.values()) oldest = Math.min(oldest, at)
    return Math.max(age, (cache.now() - oldest) / 1000)
  }

  /** Returns the listings of some types, which were read as one result. */
  function toResult (
    types: readonly ExtensionType[],
    { value: parts, age, ttl, hit, error: failure }: CachedResult<readonly TypeListing[]>
  ): CachedResult<Listing> {
    let oldest = age
    let error = failure
    let refusal: RegistryError | undefined
    for (const part of parts) {
      oldest = ageWithKept(oldest, part)
      error ??= part.error
      refusal ??= part.refusal
    }
    error ??= refusal
    const value = merge(types, parts)
    return error === undefined ? { value, age: oldest, ttl, hit } : { value, age: oldest, ttl: 0, hit, error }
  }

  async function readType (type: ExtensionType, { signal }: ReadOptions): Promise<CachedResult<TypeListing>> {
    const result = await cache.get(keys.list(type), signal === undefined ? loader : { ...loader, signal })
    if (result.value === undefined) throw registryError('internal_error', 'Internal server error', { instance })
    return { ...result, value: result.value }
  }

  return {
    /** Returns how a read of the listing of a type is counted, and how that listing is refreshed. */
    use: (type: ExtensionType): CacheUse => uses[type],

    /** Returns the listing of some types from the cache, if every part of it is fresh; undefined otherwise. */
    cached (types: readonly ExtensionType[]): CachedRead<Listing> | undefined {
      const { used, keys } = usesOf(types)
      const result = cache.freshAll(keys)
      return result && { ...toResult(types, result), uses: used }
    },

    /** Returns the listing of some types. Loads it when it is not fresh in the cache. */
    async read (types: readonly ExtensionType[], options: ReadOptions = {}): Promise<CachedResult<Listing>> {
      const results = await Promise.all(types.map(async type => await readType(type, options)))
      const error = results.find(result => result.error !== undefined)?.error
      const value = results.map(({ value }) => value)
      return toResult(types, { value, ...combined(results), ...(error !== undefined && { error }) })
    }
  }
}
export type Listings = ReturnType<typeof createListings>

/** Milliseconds in which an upstream responds to a ping after failures, before it is crawled. */
const pingTimeoutMs = 5000
/** Maximum seconds for which an incomplete result is fresh at first. */
const incompleteTtlSeconds = 30

/** Parts of an instance that a read of the upstream into the cache needs. */
export interface UpstreamReadDependencies {
  driver: Driver
  cache: Cache
  keys: CacheKeys
  presenter: Presenter
  skips: Skips
  breaker: Breaker
  call: UpstreamCall
  /** Called when entries of the cache have changed. */
  onChange: () => void
}

export interface CrawlsDependencies extends UpstreamReadDependencies {
  /** Called with each current release that a crawl has read. */
  onRelease: (type: ExtensionType, name: string, release: Release) => void
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
