import { LRUCache } from 'lru-cache'
import type { Cache } from '../../plugins/cache/cache.ts'
import type { RegistryError } from '../../lib/errors.ts'
import type { CachedResult } from '../../lib/result.ts'
import type { ExtensionType } from '../../schemas/extension.ts'
import type { Artifact, Driver, FileReference, OpenOptions, Release } from '../driver/driver.ts'
import { isUpstreamResponse } from '../driver/fail-fast.ts'
import type { Backend, ReadOptions } from './backend.ts'
import { createBreaker } from './breaker.ts'
import { createUpstreamCall, passes } from './calls.ts'
import { createChecksums } from './checksums.ts'
import { createCrawls } from './crawls.ts'
import { createEntries } from './entries.ts'
import { createExtensions } from './extensions.ts'
import { createCacheKeys } from './keys.ts'
import { createListedNames } from './listed-names.ts'
import { createListings } from './listings.ts'
import { createLookups } from './lookups.ts'
import { createPresenter, type PresenterOptions } from './presenter.ts'
import { createRecords } from './records.ts'
import { createSkips, type Skips } from './skips.ts'

export interface CachedBackendOptions extends Omit<PresenterOptions, 'source'> {
  cache: Cache
  priority: number
  /** States what the instance is configured to read. Records of a process with another identity are not used. */
  identity?: string
  /** Called with the error of each crawl; undefined after a crawl without one. */
  onFailure?: (error: RegistryError | undefined) => void
  /** Keeps what the driver skips; not logged and not counted if unset. */
  skips?: Skips
}

/** Digests of which it is remembered what has them. */
const maxDigests = 10_000

/**
 * Puts a driver behind the cache. Repeated reads are loaded once. While the upstream fails, its last results are
 * returned. An absence is only returned when the upstream, or its last complete listing, proves it.
 */
export function createCachedBackend (driver: Driver, options: CachedBackendOptions): Backend {
  const { cache, priority } = options
  const { name: instance, source } = driver
  const skips = options.skips ?? createSkips({ instance })
  const holders = new LRUCache<string, FileReference>({ max: maxDigests })
  const remember = (file: FileReference): void => { if (file.checksum !== undefined) holders.set(file.checksum, file) }
  const keys = createCacheKeys(instance)
  const presenter = createPresenter({ ...options, source, onFile: remember })
  const breaker = createBreaker(() => cache.now())
  const call = createUpstreamCall(instance, breaker)
  let loads = 0
  const parts = { driver, cache, keys, presenter, skips, breaker, call, onChange: () => { loads++ } }
  const checksums = createChecksums({
    ...parts,
    // A checksum file that cannot be read costs its release the checksum: it does not open the circuit.
    call: async request => await call(request, { forgives: () => true, passes })
  })
  const lookups = createLookups({ instance, cache, keys, presenter, checksums })
  const crawls = createCrawls({ ...parts, onRelease: lookups.follow, onEnd: options.onFailure })
  const listings = createListings({ instance, cache, keys, loader: crawls.loader })
  const listed = createListedNames({ cache, keys, listUse: listings.use })
  const entries = createEntries({ ...parts, listed })

  const release = entries.readRelease

  /** A version's release; before it is said to be absent, what is cached is as young as a 404 must be. */
  async function freshRelease (
    type: ExtensionType,
    name: string,
    version: string,
    { signal }: ReadOptions = {}
  ): Promise<CachedResult<Release | undefined>> {
    const options = signal === undefined ? {} : { signal }
    const result = await release(type, name, version, options)
    if (result.value !== undefined || !result.hit) return result
    return await release(type, name, version, { ...options, maxAge: cache.times.negativeTtl })
  }

  /** A version's release with the checksum of its file. */
  const checkedRelease = async (
    type: ExtensionType,
    name: string,
    version: string,
    options: ReadOptions = {}
  ): Promise<CachedResult<Release | undefined>> =>
    await lookups.release({
      type,
      name,
      options,
      since: performance.now(),
      result: await freshRelease(type, name, version, options),
      reload: async () => await release(type, name, version, { ...options, maxAge: -1 })
    })

  const openFile = async (
    file: FileReference,
    options: OpenOptions,
    extension?: string
  ): Promise<Artifact | undefined> =>
    await call(async () => await driver.open(file, options), {
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
    get failure () { return crawls.failure() },
    get circuit () { return breaker.state },

    use: cache.use,
    cachedList: listings.cached,
    list: listings.read,
    ...createExtensions({ driver, cache, keys, listed, entries, lookups }),

    async stat (type, name, version, options) {
      const { value: found, ...blocked } = await checkedRelease(type, name, version, options)
      return {
        ...blocked,
        value: found && { published_at: found.published_at, ...(found.file !== undefined && { file: found.file }) }
      }
    },

    reopen: async (file, options) => await openFile(file, options),

    holding: checksum => holders.get(checksum),

    async open (type, name, version, openOptions): Promise<Artifact | undefined> {
      const open = async (file: FileReference | undefined) =>
        file === undefined ? undefined : await openFile(file, openOptions, `${type}/${name}`)
      const { value } = await checkedRelease(type, name, version)
      const artifact = await open(value?.file)
      if (artifact !== undefined || value?.file === undefined) return artifact
      // What the upstream no longer has under the known address may be there under a new one.
      const replaced = await release(type, name, version, { maxAge: -1 })
      if (replaced.error !== undefined) throw replaced.error
      if (replaced.value?.file === undefined || replaced.value.file.locator === value.file.locator) return undefined
      return await open((await checkedRelease(type, name, version)).value?.file)
    },

    async ping (signal) {
      await call(async () => { await driver.ping(signal) }, { probe: true, shallow: true })
    },

    refresh: crawls.refresh,

    peek: type => cache.read(keys.list(type))?.value.extensions
  }
}
