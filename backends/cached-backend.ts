import { finding, slot, type Cache, type Cached, type Finding, type Slot } from '../plugins/cache.ts'
import { isRegistryError, registryError, type RegistryError } from '../plugins/errors.ts'
import { extensionTypes, type Extension, type ExtensionType, type ExtensionVersion } from '../schemas/extension.ts'
import type { Answered, Artifact, Backend, Crawl, Driver, FileReference, Listing, Loaded, Metadata, Release } from './backend.ts'
import { createCooldown } from './cooldown.ts'
import { currentRelease } from './version.ts'

export interface CachedBackendOptions {
  cache: Cache
  priority: number
  /** Which address is shown as `download_url`. */
  downloadUrls: 'upstream' | 'gateway'
  /** Where this registry is reached from outside; without it there are no `gateway` addresses. */
  publicUrl?: string
  /** Told of each walk's failure, or of its success after one. */
  onFailure?: (error: RegistryError | undefined) => void
}

/** One type's part of a listing, as it is cached. */
interface TypeListing {
  extensions: readonly Extension[]
  byName: ReadonlyMap<string, Extension>
  /** Why something could not be read; what has an earlier answer is in `extensions` all the same. */
  error: RegistryError | undefined
  /** Whether anything is missing from `extensions`, by name or altogether. */
  missing: boolean
  /** Names that could not be read and have no earlier answer. */
  unread: readonly string[]
  /** When an earlier answer that stands in was given (milliseconds of the cache's clock), by name. */
  kept: ReadonlyMap<string, number>
  /** Names of the last listing that was complete, and when that was (milliseconds of the cache's clock). */
  proof: { names: ReadonlySet<string>, at: number } | undefined
}

interface VersionListing { releases: readonly Release[], versions: ExtensionVersion[] }

/** Seconds after which an incomplete listing is tried again. */
const incompleteTtl = 30

/**
 * Puts a driver behind the cache: what is asked again and again is loaded once, a failing upstream is stood in for by
 * what it last said, and "not there" is only said when the upstream, or its last complete listing, says so.
 */
export function createCachedBackend (driver: Driver, options: CachedBackendOptions): Backend {
  const { cache, priority } = options
  const { name: instance, source } = driver
  const listSlot = (type: ExtensionType): Slot<TypeListing> => slot('list', `${instance}:list:${type}`)
  const metadataSlot = (type: ExtensionType, name: string): Slot<Extension> => slot('metadata', `${instance}:${type}/${name}`)
  const versionsSlot = (type: ExtensionType, name: string): Slot<VersionListing> => slot('versions', `${instance}:${type}/${name}/versions`)
  const cooldown = createCooldown(() => cache.now())
  let failure: RegistryError | undefined

  function downloadUrl ({ type, name }: Metadata, { version, file }: Release): string | undefined {
    if (file === undefined) return undefined
    if (options.downloadUrls === 'upstream') return file.url
    return options.publicUrl === undefined ? undefined : `${options.publicUrl.replace(/\/+$/, '')}/api/v1/extensions/${type}/${name}/${encodeURIComponent(version)}`
  }

  function toVersion (metadata: Metadata, release: Release): ExtensionVersion {
    const { version, published_at, file } = release
    const url = downloadUrl(metadata, release)
    return {
      version,
      published_at,
      ...(url !== undefined && { download_url: url }),
      ...(file?.checksum !== undefined && { checksum: file.checksum }),
      ...(file?.size !== undefined && { size: file.size })
    }
  }

  function toExtension (metadata: Metadata, release: Release): Extension {
    const { name, type, description, author, repository, tags } = metadata
    const { version, ...rest } = toVersion(metadata, release)
    return {
      name,
      type,
      version,
      description,
      ...(author !== undefined && author !== '' && { author }),
      ...(repository !== undefined && { repository }),
      source,
      ...rest,
      ...(tags !== undefined && tags.length > 0 && { tags })
    }
  }

  /**
   * Runs a driver's call; its failures decide when the upstream is asked again. What was `answered`, though badly, to a
   * question for one extension says nothing of the others.
   */
  async function ask<T> (call: () => Promise<T>, single = false): Promise<T> {
    try {
      const answer = await call()
      cooldown.succeeded()
      return answer
    } catch (error) {
      const known = isRegistryError(error) ? error : registryError('internal_error', 'Internal server error', { cause: error, instance })
      const answered = known.proxyError === 'destination_unavailable' || known.proxyError === 'http_protocol_error' || known.proxyError === 'http_response_incomplete'
      if (!single || !answered || known.code === 'rate_limit') cooldown.failed(known)
      throw known
    }
  }

  function toListing (type: ExtensionType, crawl: Crawl): TypeListing {
    const failed = crawl.failed.filter(repository => repository.type === type)
    const earlier = cache.peek(listSlot(type))
    const before = earlier?.value
    const oldest = cache.now() - (cache.times.ttl + cache.times.staleIfError) * 1000
    const kept = new Map<string, number>()
    const unread: string[] = []
    const byName = new Map(crawl.found.filter(({ metadata }) => metadata.type === type)
      .map(({ metadata, release }) => [metadata.name, toExtension(metadata, release)]))
    for (const { name } of failed) {
      const known = before?.byName.get(name)
      const at = before?.kept.get(name) ?? cache.now() - (earlier?.age ?? Infinity) * 1000
      if (known === undefined || at < oldest) unread.push(name)
      else {
        byName.set(name, known)
        kept.set(name, at)
      }
    }
    const complete = failed.length === 0 && crawl.truncated !== true
    const extensions = [...byName.values()].sort((a, b) => a.name < b.name ? -1 : 1)
    const missing = crawl.truncated === true || unread.length > 0
    return { extensions, byName, error: failed[0]?.error, missing, unread, kept, proof: complete ? { names: new Set(byName.keys()), at: cache.now() } : before?.proof }
  }

  async function crawl (): Promise<Finding[]> {
    try {
      const found = await ask(() => driver.list())
      const listings = extensionTypes.map(type => ({ type, listing: toListing(type, found) }))
      failure = found.failed[0]?.error
      options.onFailure?.(failure)
      return listings.map(({ type, listing }) => finding(listSlot(type), listing,
        listing.error !== undefined || listing.missing ? Math.min(incompleteTtl, cache.times.ttl) : undefined))
    } catch (error) {
      if (isRegistryError(error)) {
        failure = error
        options.onFailure?.(error)
      }
      throw error
    }
  }
  const listLoader = { flight: `${instance}:list`, load: crawl, rest: cooldown.rest }

  async function load (type: ExtensionType, name: string): Promise<Finding[]> {
    const loaded: Loaded | undefined = await ask(async () => await driver.load(type, name), true)
    const current = loaded === undefined ? undefined : currentRelease(loaded.releases)
    if (loaded === undefined || current === undefined) return [finding(metadataSlot(type, name), undefined), finding(versionsSlot(type, name), undefined)]
    const { metadata, releases, partial } = loaded
    const ttl = partial === true ? Math.min(incompleteTtl, cache.times.ttl) : undefined
    return [
      finding(metadataSlot(type, name), toExtension(metadata, current), ttl),
      finding(versionsSlot(type, name), { releases, versions: releases.map(release => toVersion(metadata, release)) }, ttl)
    ]
  }
  function extensionLoader (type: ExtensionType, name: string, maxAge?: number) {
    const listed = cache.peek(listSlot(type))
    return {
      flight: `${instance}:${type}/${name}`,
      load: () => load(type, name),
      rest: cooldown.rest,
      ...(maxAge !== undefined && { maxAge }),
      // What a listing has shown since is no longer absent.
      ...(listed?.value.byName.has(name) === true && { maxAbsence: listed.age })
    }
  }

  /** An answer of the listing about one name: the extension, or that there is none; undefined when the listing can't tell. */
  function fromListing (type: ExtensionType, name: string, maxAge: number, newerThan: number): Answered<Extension | undefined> | undefined {
    const listed = cache.peek(listSlot(type))
    if (listed === undefined || !listed.fresh || listed.age > newerThan) return undefined
    const { byName, error, missing } = listed.value
    const value = byName.get(name)
    // What was looked for and not found since is no longer there.
    if (value !== undefined && (cache.absentFor(metadataSlot(type, name)) ?? Infinity) < listed.age) return undefined
    if (value === undefined ? (error !== undefined || missing || listed.age > maxAge) : error !== undefined) return undefined
    cache.use(listSlot(type), listLoader)
    return { value, age: listed.age, ttl: listed.ttl, hit: true }
  }

  /** When the upstream fails: what is left of its word about one name, or the failure itself. */
  function whenFailing<T> (type: ExtensionType, name: string, error: RegistryError, stale: (known: Extension) => T | undefined): Answered<T | undefined> {
    const listed = cache.peek(listSlot(type))
    const known = listed?.value.byName.get(name)
    const value = known === undefined ? undefined : stale(known)
    if (listed !== undefined && value !== undefined) return { value, age: listed.age, ttl: 0, hit: false, error }
    const proof = listed?.value.proof
    if (known !== undefined || proof === undefined || proof.names.has(name)) throw error
    const age = Math.max(0, (cache.now() - proof.at) / 1000)
    if (age > cache.times.ttl + cache.times.staleIfError) throw error
    return { value: undefined, age, ttl: 0, hit: false, error }
  }

  /** Whether a listing that is newer than `age` seconds tells another thing of a name than an entry that is so old. */
  function newerListing (type: ExtensionType, name: string, age: number, tells: (known: Extension) => unknown): boolean {
    const listed = cache.peek(listSlot(type))
    if (listed === undefined) return false
    const { byName, kept, proof } = listed.value
    const known = byName.get(name)
    if (known !== undefined) return listed.age < age && !kept.has(name) && tells(known) !== undefined
    return proof !== undefined && !proof.names.has(name) && (cache.now() - proof.at) / 1000 < age
  }

  async function askOrStandIn<T, U> (type: ExtensionType, name: string, question: () => Promise<Cached<T | undefined>>, map: (value: T) => U, stale: (known: Extension) => U | undefined): Promise<Answered<U | undefined>> {
    const resting = cooldown.rest() !== undefined
    try {
      const cached = await question()
      // Of two old words the newer one counts.
      if (cached.error !== undefined && newerListing(type, name, cached.age, stale)) return { ...whenFailing(type, name, cached.error, stale), hit: cached.hit }
      return { ...cached, value: cached.value === undefined ? undefined : map(cached.value) }
    } catch (error) {
      if (!isRegistryError(error) || error.code === 'internal_error') throw error
      return { ...whenFailing(type, name, error, stale), hit: resting }
    }
  }

  const versionListing = (type: ExtensionType, name: string, maxAge?: number) =>
    cache.get(versionsSlot(type, name), extensionLoader(type, name, maxAge))

  async function release (type: ExtensionType, name: string, version: string, maxAge?: number): Promise<Answered<Release | undefined>> {
    return await askOrStandIn(type, name, () => versionListing(type, name, maxAge),
      ({ releases }) => releases.find(candidate => candidate.version === version), () => undefined)
  }

  /** A version's release; before it is said to be absent, what is cached is as young as a 404 must be. */
  async function freshRelease (type: ExtensionType, name: string, version: string): Promise<Answered<Release | undefined>> {
    const answer = await release(type, name, version)
    if (answer.value !== undefined || !answer.hit) return answer
    return await release(type, name, version, cache.times.negativeTtl)
  }

  return {
    name: instance,
    source,
    priority,
    get failure () { return failure },
    get resting () { return cooldown.rest() !== undefined },

    async list (types) {
      const answers = await Promise.all(types.map(async type => ({ type, cached: await cache.get(listSlot(type), listLoader) })))
      const listings = answers.map(({ type, cached: { value, ...rest } }) => {
        if (value === undefined) throw registryError('internal_error', 'Internal server error', { instance })
        return { type, value, ...rest }
      })
      const error = listings.find(listing => listing.error !== undefined)?.error ?? listings.find(({ value }) => value.error !== undefined)?.value.error
      const value: Listing = {
        types: new Map(listings.map(({ type, value }) => [type, value.extensions])),
        incomplete: listings.some(({ value }) => value.missing),
        unread: new Set(listings.flatMap(({ type, value }) => value.unread.map(name => `${type}/${name}`)))
      }
      return {
        value,
        age: Math.max(...listings.map(({ value, age }) => Math.max(age, ...[...value.kept.values()].map(at => (cache.now() - at) / 1000)))),
        ttl: error === undefined ? Math.min(...listings.map(({ ttl }) => ttl)) : 0,
        hit: listings.every(({ hit }) => hit),
        ...(error !== undefined && { error })
      }
    },

    async find (type, name, maxAge = cache.times.ttl) {
      const own = cache.peek(metadataSlot(type, name))
      const listed = fromListing(type, name, maxAge, own?.age ?? Infinity)
      if (listed !== undefined) return listed
      return await askOrStandIn(type, name, () => cache.get(metadataSlot(type, name), extensionLoader(type, name, maxAge)), value => value, known => known)
    },

    async versions (type, name, maxAge = cache.times.ttl) {
      if (cache.peek(versionsSlot(type, name)) === undefined) {
        const listed = fromListing(type, name, maxAge, Infinity)
        if (listed !== undefined && listed.value === undefined) return { ...listed, value: undefined }
      }
      return await askOrStandIn(type, name, () => versionListing(type, name, maxAge), ({ versions }) => versions, () => undefined)
    },

    async stat (type, name, version) {
      const { value, ...rest } = await freshRelease(type, name, version)
      return { ...rest, value: value === undefined ? undefined : value.file === undefined ? {} : { file: value.file } }
    },

    async open (type, name, version, openOptions): Promise<Artifact | undefined> {
      const open = async (file: FileReference | undefined) => file === undefined ? undefined : await driver.open(file, openOptions)
      const { value } = await freshRelease(type, name, version)
      const artifact = await open(value?.file)
      if (artifact !== undefined || value?.file === undefined) return artifact
      // What the upstream no longer has under the known address may be there under a new one.
      const again = await release(type, name, version, -1)
      if (again.error !== undefined) throw again.error
      return again.value?.file === undefined || again.value.file.locator === value.file.locator ? undefined : await open(again.value.file)
    },

    async ping (signal) {
      await ask(async () => { await driver.ping(signal) })
    },

    peek: type => cache.peek(listSlot(type))?.value.extensions
  }
}
