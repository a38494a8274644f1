import { LRUCache } from 'lru-cache'
import { loadedEntry, type Cache, type LoadedEntry, type Loader, type CacheKey } from '../../plugins/cache/cache.ts'
import { isRegistryError, registryError, type RegistryError } from '../../lib/errors.ts'
import { extensionTypes, type Extension, type ExtensionType } from '../../schemas/extension.ts'
import { whenThere, type MaybePromise } from '../../lib/maybe-promise.ts'
import { type Backend, type Listing, type ReadOptions } from './backend.ts'
import type { Artifact, Driver, FileReference, OpenOptions, Release } from '../driver/driver.ts'
import { createBreaker, type RunOptions } from './breaker.ts'
import { isUpstreamResponse } from '../driver/fail-fast.ts'
import { createListings, toListing, type TypeListing } from './listing.ts'
import { createLookups, isUnchecked, versionListing } from './lookups.ts'
import { createRecords } from './records.ts'
import { forEachYielding } from '../../lib/yielding.ts'
import { createPresenter, type PresenterOptions } from './presenter.ts'
import { reuse, reuseAll } from '../../lib/reuse.ts'
import { createSkips, type Skips } from './skips.ts'
import { createCacheKeys, type Described, type VersionListing } from './keys.ts'
import { currentRelease } from '../driver/version.ts'
import { type CachedResult, combined } from '../../lib/result.ts'

export interface CachedBackendOptions extends Omit<PresenterOptions, 'source'> {
  cache: Cache
  priority: number
  /**
   * Says what the instance is configured to read: what a former process remembered of anything else is not taken over.
   */
  identity?: string
  /** Told of each walk's failure, or of its success after one. */
  onFailure?: (error: RegistryError | undefined) => void
  /** Keeps what the driver skips; logged and counted nowhere if unset. */
  skips?: Skips
}

/** Digests of which it is remembered what has them. */
const maxDigests = 10_000

/** Milliseconds that an upstream has to show that it is back. */
const testTimeoutMs = 5000
/** Seconds after which an incomplete listing is tried again; doubled as long as it stays so. */
const incompleteTtlSeconds = 30

/**
 * Puts a driver behind the cache: what is asked again and again is loaded once, a failing upstream is stood in for by
 * what it last said, and "not there" is only said when the upstream, or its last complete listing, says so.
 */
export function createCachedBackend (driver: Driver, options: CachedBackendOptions): Backend {
  const { cache, priority } = options
  const { name: instance, source } = driver
  const skips = options.skips ?? createSkips({ instance })
  const holders = new LRUCache<string, FileReference>({ max: maxDigests })
  const remember = (file: FileReference): void => { if (file.checksum !== undefined) holders.set(file.checksum, file) }
  const keys = createCacheKeys(instance)
  const { list: listKey, metadata: metadataKey, versions: versionsKey } = keys
  const listingOf = createListings()
  const presenter = createPresenter({ ...options, source, onFile: remember })
  const { toExtension, toVersion } = presenter
  const breaker = createBreaker(() => cache.now())
  let failure: RegistryError | undefined
  let incompleteInARow = 0
  let loads = 0

  /** Runs a driver's call; its failures decide when the upstream is asked again. */
  async function ask<T> (call: () => Promise<T>, options: RunOptions = {}): Promise<T> {
    return await breaker.run(async () => {
      try {
        return await call()
      } catch (error) {
        throw isRegistryError(error)
          ? error
          : registryError('internal_error', 'Internal server error', { cause: error, instance })
      }
    }, options)
  }

  const lookups = createLookups({
    driver,
    cache,
    keys,
    presenter,
    skips,
    // A checksum file that cannot be read costs its release the checksum: it does not open the circuit.
    ask: async call => await ask(call, { forgives: () => true, passes }),
    onChange: () => { loads++ }
  })

  async function crawl (): Promise<LoadedEntry[]> {
    try {
      // A walk takes its time: whether the upstream is back a shorter question tells.
      if (breaker.state !== 'closed') {
        await ask(async () => {
          await driver.ping(AbortSignal.timeout(testTimeoutMs))
        }, { shallow: true })
      }
      const { skip, end } = skips.crawl()
      const found = await ask(() => driver.list({ skip }), { slow: true })
      end(found)
      const listings: Array<{ type: ExtensionType, listing: TypeListing }> = []
      for (const type of extensionTypes) {
        listings.push({ type, listing: await toListing(type, found, cache.read(listKey(type)), cache, toExtension) })
      }
      const whole = listings.every(({ listing }) => listing.error === undefined && !listing.missing)
      incompleteInARow = whole ? 0 : incompleteInARow + 1
      failure = found.failed[0]?.error ?? (found.expected === true ? undefined : found.truncatedBy)
      loads++
      await forEachYielding(found.found, ({ metadata: { type, name }, release }) => {
        lookups.follow(type, name, release)
      })
      options.onFailure?.(failure)
      return listings.map(({ type, listing }) =>
        loadedEntry(
          listKey(type),
          listing,
          listing.error !== undefined || listing.missing
            ? Math.min(incompleteTtlSeconds * 2 ** (incompleteInARow - 1), cache.times.ttl)
            : undefined
        )
      )
    } catch (error) {
      if (isRegistryError(error)) {
        failure = error
        options.onFailure?.(error)
      }
      throw error
    }
  }
  const blocked = () => breaker.blocked()
  // Where the listing is what cannot be used, a name may be asked for all the same.
  const passes = ({ proxyError }: RegistryError) => proxyError === 'http_protocol_error'
  const listLoader = { instance, flight: `${instance}:list`, load: crawl, blocked }

  async function load (type: ExtensionType, name: string): Promise<LoadedEntry[]> {
    const { skip, end } = skips.load(type, name)
    const loaded = await ask(async () => await driver.load(type, name, { skip }), {
      forgives: isUpstreamResponse,
      passes,
      extension: `${type}/${name}`
    })
    end()
    const current = loaded === undefined ? undefined : currentRelease(loaded.releases)
    if (loaded === undefined || current === undefined) {
      return [loadedEntry(metadataKey(type, name), undefined), loadedEntry(versionsKey(type, name), undefined)]
    }
    const { metadata, releases } = loaded
    loads++
    const shown = {
      extension: cache.peek(metadataKey(type, name))?.value.extension,
      versions: cache.peek(versionsKey(type, name))?.value.versions
    }
    const extension = reuse(shown.extension, toExtension(metadata, current))
    return [
      loadedEntry(
        metadataKey(type, name),
        isUnchecked(current) ? { extension, unchecked: { metadata, release: current } } : { extension }
      ),
      loadedEntry(
        versionsKey(type, name),
        versionListing(releases, reuseAll(shown.versions, releases.map(release => toVersion(metadata, release))))
      )
    ]
  }
  /** `shown`: whether what a listing shows of the extension is an answer, too. */
  function extensionLoader (type: ExtensionType, name: string, { maxAge, deadline }: ReadOptions = {}, shown = false) {
    const listed = cache.read(listKey(type))
    const known = listed?.value.byName.has(name) === true
    return {
      standIn: known ? shown : listed?.fresh === false && listed.value.proof?.names.has(name) === false,
      instance,
      flight: `${instance}:${type}/${name}`,
      load: () => load(type, name),
      blocked: () => breaker.blocked(passes),
      ...(deadline !== undefined && { deadline }),
      ...(maxAge !== undefined && { maxAge }),
      // What a listing has shown since is no longer absent.
      ...(listed?.value.byName.has(name) === true && { maxAbsence: listed.age })
    }
  }

  /**
   * An answer of the listing about one name: the extension, or that there is none; undefined when the listing can't
   * tell.
   */
  function fromListing (
    type: ExtensionType,
    name: string,
    key: CacheKey<Described>,
    maxAge: number,
    newerThan: number
  ): CachedResult<Extension | undefined> | undefined {
    const listed = cache.read(listKey(type))
    if (listed === undefined || !listed.fresh || listed.age > newerThan) return undefined
    const { byName, error, missing, kept, unread } = listed.value
    const value = byName.get(name)
    // What was looked for and not found since is no longer there.
    if (value !== undefined && (cache.absentFor(key) ?? Infinity) < listed.age) return undefined
    if (
      value === undefined
        ? (error !== undefined || missing || unread.has(name) || listed.age > maxAge)
        : kept.has(name)
    ) return undefined
    cache.use(listKey(type), listLoader)
    return { value, age: listed.age, ttl: listed.ttl, hit: true }
  }

  /** When the upstream fails: what is left of its word about one name, or the failure itself. */
  function whenFailing<T> (
    type: ExtensionType,
    name: string,
    error: RegistryError,
    stale: (known: Extension) => T | undefined
  ): CachedResult<T | undefined> {
    const listed = cache.read(listKey(type))
    const known = listed?.value.byName.get(name)
    const value = known === undefined ? undefined : stale(known)
    const since = listed?.value.kept.get(name)
    if (listed !== undefined && value !== undefined) {
      return { value, age: since === undefined ? listed.age : (cache.now() - since) / 1000, ttl: 0, hit: false, error }
    }
    const proof = listed?.value.proof
    if (
      known !== undefined || proof === undefined || proof.names.has(name) || listed?.value.unread.has(name) === true
    ) { throw error }
    const age = Math.max(0, (cache.now() - proof.at) / 1000)
    if (age > cache.times.ttl + cache.times.staleIfError) throw error
    return { value: undefined, age, ttl: 0, hit: false, error }
  }

  /** Whether a listing that is newer than `age` seconds tells another thing of a name than an entry that is so old. */
  function newerListing (
    type: ExtensionType,
    name: string,
    age: number,
    tells: (known: Extension) => unknown
  ): boolean {
    const listed = cache.read(listKey(type))
    if (listed === undefined) return false
    const { byName, kept, proof } = listed.value
    const known = byName.get(name)
    if (known !== undefined) return listed.age < age && !kept.has(name) && tells(known) !== undefined
    return proof !== undefined && !proof.names.has(name) && (cache.now() - proof.at) / 1000 < age
  }

  function askOrStandIn<T, U> (
    type: ExtensionType,
    name: string,
    key: CacheKey<T>,
    loader: Loader,
    map: (value: T) => U,
    stale: (known: Extension) => U | undefined
  ): MaybePromise<CachedResult<U | undefined>> {
    const fresh = cache.fresh(key, loader)
    return fresh === undefined
      ? loadOrStandIn(type, name, key, loader, map, stale)
      : { ...fresh, value: map(fresh.value) }
  }

  async function loadOrStandIn<T, U> (
    type: ExtensionType,
    name: string,
    key: CacheKey<T>,
    loader: Loader,
    map: (value: T) => U,
    stale: (known: Extension) => U | undefined
  ): Promise<CachedResult<U | undefined>> {
    const waitsForNothing = cache.refusal(loader) !== undefined
    try {
      const cached = await cache.get(key, loader)
      // Of two old words the newer one counts.
      if (cached.error !== undefined && newerListing(type, name, cached.age, stale)) {
        return { ...whenFailing(type, name, cached.error, stale), hit: cached.hit }
      }
      return { ...cached, value: cached.value === undefined ? undefined : map(cached.value) }
    } catch (error) {
      if (!isRegistryError(error) || error.code === 'internal_error') throw error
      return { ...whenFailing(type, name, error, stale), hit: waitsForNothing }
    }
  }

  /** A version list that lacks the version of a newer listing is too old, though fresh. */
  function agreeing (type: ExtensionType, name: string, terms: ReadOptions): ReadOptions {
    const own = cache.peek(versionsKey(type, name))
    const listed = cache.read(listKey(type))
    const version = listed?.value.kept.has(name) === true ? undefined : listed?.value.byName.get(name)?.version
    if (own === undefined || listed === undefined || version === undefined || listed.age >= own.age) return terms
    return own.value.releases.some(release => release.version === version)
      ? terms
      : { ...terms, maxAge: Math.min(terms.maxAge ?? Infinity, listed.age) }
  }

  /** Seconds since the oldest answer that a listing keeps. */
  function ageOfKept (kept: TypeListing['kept']): number {
    let oldest = cache.now()
    for (const at of kept.values()) oldest = Math.min(oldest, at)
    return (cache.now() - oldest) / 1000
  }

  /** The parts of a listing as one answer. */
  function asOne (
    types: readonly ExtensionType[],
    answers: ReadonlyArray<CachedResult<TypeListing | undefined>>
  ): CachedResult<Listing> {
    const parts = answers.map(({ value }): TypeListing => {
      if (value === undefined) throw registryError('internal_error', 'Internal server error', { instance })
      return value
    })
    const error = answers.find(answer => answer.error !== undefined)?.error ?? parts.find(part =>
      part.error !== undefined
    )?.error ?? parts.find(part => part.refusal !== undefined)?.refusal
    const { age, ttl, hit } = combined(answers)
    const oldest = parts.reduce((oldest, { kept }) => kept.size > 0 ? Math.max(oldest, ageOfKept(kept)) : oldest, age)
    return {
      value: listingOf(types, parts),
      age: oldest,
      ttl: error === undefined ? ttl : 0,
      hit,
      ...(error !== undefined && { error })
    }
  }

  const covers = (type: ExtensionType, name: string): boolean => driver.covers?.(type, name) !== false
  /** The result for a name that the instance cannot have by its configuration. */
  const outside = { value: undefined, age: 0, ttl: cache.times.ttl, hit: true }

  const versionsLoader = (type: ExtensionType, name: string, terms: ReadOptions) =>
    extensionLoader(type, name, agreeing(type, name, terms))

  async function release (
    type: ExtensionType,
    name: string,
    version: string,
    terms: ReadOptions
  ): Promise<CachedResult<Release | undefined>> {
    return await askOrStandIn(
      type,
      name,
      versionsKey(type, name),
      versionsLoader(type, name, terms),
      ({ releases }) => releases.find(candidate => candidate.version === version),
      () => undefined
    )
  }

  /** A version's release; before it is said to be absent, what is cached is as young as a 404 must be. */
  async function freshRelease (
    type: ExtensionType,
    name: string,
    version: string,
    { deadline }: ReadOptions = {}
  ): Promise<CachedResult<Release | undefined>> {
    const terms = deadline === undefined ? {} : { deadline }
    const answer = await release(type, name, version, terms)
    if (answer.value !== undefined || !answer.hit) return answer
    return await release(type, name, version, { ...terms, maxAge: cache.times.negativeTtl })
  }

  const described = (
    type: ExtensionType,
    name: string,
    terms: ReadOptions
  ): MaybePromise<CachedResult<Described | undefined>> =>
    askOrStandIn(
      type,
      name,
      metadataKey(type, name),
      extensionLoader(type, name, terms, true),
      value => value,
      (known): Described => ({ extension: known })
    )

  const versionsOf = (
    type: ExtensionType,
    name: string,
    terms: ReadOptions
  ): MaybePromise<CachedResult<VersionListing | undefined>> =>
    askOrStandIn(
      type,
      name,
      versionsKey(type, name),
      versionsLoader(type, name, terms),
      value => value,
      () => undefined
    )

  /** The extension as the listing has it, or as it was described since. */
  function find (
    type: ExtensionType,
    name: string,
    terms: ReadOptions
  ): { listed: CachedResult<Extension | undefined> } | { asked: MaybePromise<CachedResult<Described | undefined>> } {
    const { maxAge = cache.times.ttl } = terms
    const key = metadataKey(type, name)
    const listed = fromListing(type, name, key, maxAge, cache.read(key)?.age ?? Infinity)
    return listed === undefined ? { asked: described(type, name, { ...terms, maxAge }) } : { listed }
  }

  /** A version's release with the checksum of its file. */
  const checkedRelease = async (
    type: ExtensionType,
    name: string,
    version: string,
    terms: ReadOptions = {}
  ): Promise<CachedResult<Release | undefined>> =>
    await lookups.release({
      type,
      name,
      terms,
      answer: await freshRelease(type, name, version, terms),
      reload: () => release(type, name, version, { ...terms, maxAge: -1 })
    })

  const openFile = async (
    file: FileReference,
    options: OpenOptions,
    extension?: string
  ): Promise<Artifact | undefined> =>
    await ask(async () => await driver.open(file, options), {
      forgives: error => options.signal.aborted || isUpstreamResponse(error),
      passes,
      ...(extension !== undefined && { extension })
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
    get failure () { return failure },
    get circuit () { return breaker.state },

    list (types, { deadline } = {}) {
      const fresh = types.map(type => cache.fresh(listKey(type), listLoader))
      if (fresh.every(answer => answer !== undefined)) return asOne(types, fresh)
      const loader = deadline === undefined ? listLoader : { ...listLoader, deadline }
      return Promise.all(types.map(async (type, at) => fresh[at] ?? await cache.get(listKey(type), loader))).then(
        answers => asOne(types, answers)
      )
    },
    find (type, name, terms = {}) {
      if (!covers(type, name)) return outside
      const found = find(type, name, terms)
      return 'listed' in found
        ? found.listed
        : whenThere(found.asked, answer =>
          lookups.extension({
            type,
            name,
            terms,
            answer,
            reload: () => described(type, name, { ...terms, maxAge: -1 })
          }))
    },

    has (type, name, terms = {}) {
      if (!covers(type, name)) return outside
      const found = find(type, name, terms)
      return whenThere<CachedResult<Extension | Described | undefined>, CachedResult<true | undefined>>(
        'listed' in found ? found.listed : found.asked,
        answer => ({ ...answer, value: answer.value && true })
      )
    },

    versions (type, name, terms = {}) {
      if (!covers(type, name)) return outside
      const { maxAge = cache.times.ttl } = terms
      const listed = fromListing(
        type,
        name,
        metadataKey(type, name),
        maxAge,
        cache.read(versionsKey(type, name))?.age ?? Infinity
      )
      if (listed !== undefined && listed.value === undefined) return { ...listed, value: undefined }
      return whenThere(
        versionsOf(type, name, { ...terms, maxAge }),
        answer =>
          lookups.versions({
            type,
            name,
            terms,
            answer,
            reload: () => versionsOf(type, name, { ...terms, maxAge: -1 })
          })
      )
    },

    async stat (type, name, version, terms) {
      const { value: found, ...blocked } = await checkedRelease(type, name, version, terms)
      return {
        ...blocked,
        value: found && { published_at: found.published_at, ...(found.file !== undefined && { file: found.file }) }
      }
    },

    reopen: async (file, options) => await openFile(file, options),

    holding: checksum => holders.get(checksum),

    async open (type, name, version, { deadline, ...openOptions }): Promise<Artifact | undefined> {
      const open = async (file: FileReference | undefined) =>
        file === undefined ? undefined : await openFile(file, openOptions, `${type}/${name}`)
      const terms = deadline === undefined ? {} : { deadline }
      const { value } = await checkedRelease(type, name, version, terms)
      const artifact = await open(value?.file)
      if (artifact !== undefined || value?.file === undefined) return artifact
      // What the upstream no longer has under the known address may be there under a new one.
      const replaced = await release(type, name, version, { ...terms, maxAge: -1 })
      if (replaced.error !== undefined) throw replaced.error
      if (replaced.value?.file === undefined || replaced.value.file.locator === value.file.locator) return undefined
      return await open((await checkedRelease(type, name, version, terms)).value?.file)
    },

    async ping (signal) {
      await ask(async () => { await driver.ping(signal) }, { probe: true, shallow: true })
    },

    refresh ({ recovered = false } = {}) {
      // A second walk that is incomplete too will be no better in a moment: the time that its listings are fresh grows.
      const anew = failure !== undefined && (recovered || incompleteInARow <= 1)
      // All types are one walk; of what failed or is missing the next one may say more.
      const type = extensionTypes.find(type => cache.read(listKey(type)) === undefined) ?? extensionTypes[0]
      cache.refresh(listKey(type), anew ? { ...listLoader, maxAge: -1 } : listLoader)
    },

    peek: type => cache.read(listKey(type))?.value.extensions
  }
}
