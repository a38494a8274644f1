import type { FastifyBaseLogger } from 'fastify'
import type { Download } from '../../plugins/replies/plugin.ts'
import { createDeadline, deadlineAfter, late, withDeadline, type Deadline } from '../../lib/deadline.ts'
import type { Downloads, OpenAt, Origin, Wanted } from '../../plugins/downloads/plugin.ts'
import { isRegistryError, registryError, type RegistryError } from '../../lib/errors.ts'
import {
  extensionSources,
  extensionTypes,
  type Extension,
  type ExtensionSource,
  type ExtensionType,
  type ExtensionVersion
} from '../../schemas/extension.ts'
import type { Backend, CachedRead, Listing, ReadOptions, SkippedReport } from '../cached/backend.ts'
import type { Artifact, FileReference } from '../driver/driver.ts'
import { createCatalogViews, type CatalogView, type InstanceListing } from './view.ts'
import { type CachedResult, type InstanceIssue, type ListPage, type Result, combined } from '../../lib/result.ts'

export interface CatalogDependencies {
  downloads: Pick<Downloads, 'look' | 'open'>
  /** In order of appearance in the configuration, Gitea's before OCI's. */
  backends: readonly Backend[]
  log: FastifyBaseLogger
  /** Seconds: the oldest cached entry that a 404 may rest on. */
  negativeTtl: number
  /** Seconds that one read may take, over all instances. */
  budget: number
}

const none: readonly Extension[] = []

const nothing: ReadonlySet<string> = new Set()

const only: Record<ExtensionType, readonly ExtensionType[]> = {
  provider: ['provider'],
  taskserv: ['taskserv'],
  cluster: ['cluster']
}

/** The listing of one instance, or the error that its read failed with. */
type InstanceRead = { backend: Backend, result: CachedResult<Listing>, error?: never } | {
  backend: Backend,
  result?: never,
  error: RegistryError
}

/** The owner of an extension and its result; or the age in seconds of the oldest result that nobody has it. */
type Owned<T> = { backend: Backend, result: Result<T>, oldest?: never } | {
  backend?: never,
  result?: never,
  oldest: number
}

export interface Scope { source?: ExtensionSource | undefined }

/** Extensions of one type, or of all. */
export interface ListScope extends Scope { type?: ExtensionType | undefined }

export interface Name extends Scope { type: ExtensionType, name: string }

/** The order of ownership: smaller priority first, then Gitea before OCI, then order of appearance. */
export function byOwnership (backends: readonly Backend[]): Backend[] {
  return [...backends].sort((a, b) =>
    a.priority - b.priority || extensionSources.indexOf(a.source) - extensionSources.indexOf(b.source)
  )
}

/** Returns the one of several errors that is reported: unavailable, else the rate limit, else the credentials. */
function worst (errors: readonly RegistryError[]): RegistryError {
  const order = ['internal_error', 'service_unavailable', 'rate_limit', 'auth_error', 'config_error']
  const [first] = [...errors].sort((a, b) => order.indexOf(a.code) - order.indexOf(b.code))
  return first ?? registryError('service_unavailable', 'No instance can be asked')
}

function rethrowUnknown (error: unknown): RegistryError {
  if (!isRegistryError(error)) throw error
  return error
}

const errorsOf = (issues: readonly InstanceIssue[]): RegistryError[] => issues.flatMap(({ error }) => error ?? [])

/** Returns a value of several results as one: as old as the oldest of them. */
function wrap<T> (
  value: T,
  results: ReadonlyArray<CachedResult<unknown>>,
  stale: InstanceIssue[],
  missing: InstanceIssue[]
): Result<T> {
  const { age, ttl, hit } = combined(results)
  const whole = stale.length === 0 && missing.length === 0 && results.length > 0
  return { value, age, ttl: whole ? ttl : 0, hit, stale, missing }
}

/**
 * Creates one catalog over all instances. An extension belongs to the first instance, in order of ownership, that has
 * it; `source` limits that to instances of one kind. An instance that is unavailable keeps its extensions: unless its
 * last complete listing lacks the name, its error is thrown. The `cached…` methods return a result at once if all of it
 * is fresh in the cache, and undefined otherwise; nothing is counted then.
 */
export function createCatalog ({ backends, downloads, log, negativeTtl, budget }: CatalogDependencies) {
  const instances = byOwnership(backends)
  const views = createCatalogViews(log)
  const ofSource = new Map(
    extensionSources.map(source => [source, instances.filter(backend => backend.source === source)])
  )
  const of = ({ source }: Scope) => source === undefined ? instances : ofSource.get(source) ?? []
  const types = (type: ExtensionType | undefined): readonly ExtensionType[] =>
    type === undefined ? extensionTypes : only[type]

  /** Runs a read that ends in time, over all instances. */
  const inTime = async <T>(read: (signal: AbortSignal) => Promise<T>): Promise<T> =>
    await withDeadline(budget * 1000, late, read)

  /** Returns the merged view of listings. Throws when no instance has one. */
  function merge ({ type, source }: ListScope, reads: readonly InstanceRead[]): Result<CatalogView> {
    const stale: InstanceIssue[] = []
    const missing: InstanceIssue[] = []
    const results: Array<CachedResult<unknown>> = []
    const listings: InstanceListing[] = []
    for (const { backend: { name: instance }, result, error } of reads) {
      if (result === undefined) {
        missing.push({ instance, error })
        continue
      }
      const { types, unread, incomplete } = result.value
      if (incomplete) missing.push({ instance, error: result.error })
      else if (result.error !== undefined) stale.push({ instance, error: result.error })
      results.push(result)
      listings.push({ instance, types, unread })
    }
    if (results.length === 0 && reads.length > 0) throw worst(errorsOf(missing))
    return wrap(views.merge(listings, `${source ?? ''}:${type ?? ''}`), results, stale, missing)
  }

  function cachedView (scope: ListScope): Result<CatalogView> | undefined {
    const reads: Array<{ backend: Backend, result: CachedRead<Listing> }> = []
    for (const backend of of(scope)) {
      const result = backend.cachedList(types(scope.type))
      if (result === undefined) return undefined
      reads.push({ backend, result })
    }
    for (const { backend, result } of reads) backend.use(result.uses)
    return merge(scope, reads)
  }

  async function readListing (backend: Backend, scope: ListScope, signal: AbortSignal): Promise<InstanceRead> {
    try {
      return { backend, result: await backend.list(types(scope.type), { signal }) }
    } catch (error) {
      return { backend, error: rethrowUnknown(error) }
    }
  }

  const readView = async (scope: ListScope): Promise<Result<CatalogView>> =>
    await inTime(async signal =>
      merge(scope, await Promise.all(of(scope).map(async backend => await readListing(backend, scope, signal))))
    )

  const toPage = (
    view: Result<CatalogView>,
    range: { limit: number, offset: number }
  ): Result<ListPage<Extension>> =>
    ({ ...view, value: { items: view.value.page(range), total: view.value.extensions.length } })

  const toMatches = (
    view: Result<CatalogView>,
    { q, limit }: { q: string, limit: number }
  ): Result<ListPage<Extension>> => ({ ...view, value: view.value.search(q, limit) })

  /** Returns the owner's value when the caches alone decide it; undefined otherwise, also when nobody has it. */
  function cachedOwned<T> (
    scope: Scope,
    read: (backend: Backend) => CachedRead<T | undefined> | undefined
  ): Result<T> | undefined {
    const reads: Array<{ backend: Backend, result: CachedRead<T | undefined> }> = []
    for (const backend of of(scope)) {
      const result = read(backend)
      if (result === undefined) return undefined
      reads.push({ backend, result })
      if (result.value === undefined) continue
      for (const { backend, result } of reads) backend.use(result.uses)
      return wrap(result.value, reads.map(({ result }) => result), [], [])
    }
    return undefined
  }

  /** Returns the first instance that has a value, in order of ownership. Throws when an instance may be the owner. */
  async function firstOwner<T> (
    scope: Scope,
    read: (backend: Backend) => Promise<CachedResult<T | undefined>>
  ): Promise<Owned<T>> {
    const doubts: InstanceIssue[] = []
    const absences: Array<CachedResult<unknown>> = []
    for (const backend of of(scope)) {
      const result = await read(backend).catch((error: unknown) => {
        throw worst([...errorsOf(doubts), rethrowUnknown(error)])
      })
      const { value, error } = result
      const stale = error === undefined ? doubts : [...doubts, { instance: backend.name, error }]
      if (value !== undefined) return { backend, result: wrap(value, [...absences, result], stale, []) }
      if (error !== undefined) doubts.push({ instance: backend.name, error })
      absences.push(result)
    }
    if (doubts.length > 0) throw worst(errorsOf(doubts))
    return { oldest: Math.max(0, ...absences.map(({ age }) => age)) }
  }

  /** The same. Cached entries are as young as a 404 requires before the result is that nobody has it. */
  async function owner<T> (
    scope: Scope,
    signal: AbortSignal,
    read: (backend: Backend, options: ReadOptions) => Promise<CachedResult<T | undefined>>
  ): Promise<Owned<T>> {
    const found = await firstOwner(scope, async backend => await read(backend, { signal }))
    if (found.result !== undefined || found.oldest <= negativeTtl) return found
    return await firstOwner(scope, async backend => await read(backend, { signal, maxAge: negativeTtl }))
  }

  /** Reads a value of the owner of a name. Throws `not_found` when nobody has it. */
  async function readOwned<T> (
    name: Name,
    read: (backend: Backend, options: ReadOptions) => Promise<CachedResult<T | undefined>>
  ): Promise<Result<T>> {
    const { result } = await inTime(async signal => await owner(name, signal, read))
    if (result === undefined) throw registryError('not_found', `Extension ${name.type}/${name.name} not found`)
    return result
  }

  /** Opens a file in the time that is left. */
  async function openWithin<T> (
    instance: string,
    deadline: Deadline,
    signal: AbortSignal,
    open: (signal: AbortSignal) => Promise<T>
  ): Promise<T> {
    const tooLate = new AbortController()
    const timer = setTimeout(() => { tooLate.abort(late(instance)) }, deadline.left())
    try {
      return await open(AbortSignal.any([signal, tooLate.signal]))
    } finally {
      clearTimeout(timer)
    }
  }

  /** Where a file is: at its owner, and at other instances that have told of the same content. */
  function sourcesOf (owner: Backend, file: FileReference, open: Origin['open']): Origin[] {
    let opened: FileReference | undefined
    const first: Origin = {
      instance: owner.name,
      async open (at) {
        if (opened !== undefined) return await owner.reopen(opened, at)
        const artifact = await open(at) as Artifact | undefined
        opened = artifact?.file
        return artifact
      }
    }
    const { checksum } = file
    const others = checksum === undefined
      ? []
      : instances.flatMap(backend => {
        const same = backend === owner ? undefined : backend.holding(checksum)
        return same === undefined
          ? []
          : [{ instance: backend.name, open: async (at: OpenAt) => await backend.reopen(same, at) }]
      })
    return [first, ...others]
  }

  return {
    /** Every instance, in order of ownership. */
    instances,

    cachedList (query: ListScope & { limit: number, offset: number }): Result<ListPage<Extension>> | undefined {
      const view = cachedView(query)
      return view && toPage(view, query)
    },

    /** Returns a page of all extensions, by type and then by name. */
    list: async (query: ListScope & { limit: number, offset: number }): Promise<Result<ListPage<Extension>>> =>
      toPage(await readView(query), query),

    cachedSearch (query: ListScope & { q: string, limit: number }): Result<ListPage<Extension>> | undefined {
      const view = cachedView(query)
      return view && toMatches(view, query)
    },

    /** Returns the best matches for `q`, in the order of {@link search}. */
    search: async (query: ListScope & { q: string, limit: number }): Promise<Result<ListPage<Extension>>> =>
      toMatches(await readView(query), query),

    cachedFind: (name: Name): Result<Extension> | undefined =>
      cachedOwned(name, backend => backend.cachedFind(name.type, name.name)),

    /** Returns an extension at its current version. Throws `not_found`. */
    find: async (name: Name): Promise<Result<Extension>> =>
      await readOwned(name, async (backend, options) => await backend.find(name.type, name.name, options)),

    cachedVersions: (name: Name): Result<readonly ExtensionVersion[]> | undefined =>
      cachedOwned(name, backend => backend.cachedVersions(name.type, name.name)),

    /** Returns all versions of an extension, highest first. Throws `not_found`. */
    versions: async (name: Name): Promise<Result<readonly ExtensionVersion[]>> =>
      await readOwned(name, async (backend, options) => await backend.versions(name.type, name.name, options)),

    /**
     * The file of a version of the extension's owner, not opened yet. Throws `not_found` when there is no such version,
     * or it has no file.
     */
    async file ({ version, ...name }: Name & { version: string }): Promise<Result<Download>> {
      const { type, name: extension } = name
      const missing = registryError('not_found', `Extension ${type}/${extension} version ${version} not found`)
      const deadline = createDeadline(budget * 1000)
      const signal = deadlineAfter(budget * 1000, late)
      const { backend, result } = await owner(
        name,
        signal,
        async (candidate, options) => await candidate.has(type, extension, options)
      )
      if (backend === undefined) throw missing
      const stat = await backend.stat(type, extension, version, { signal })
      if (stat.value === undefined) throw stat.error ?? missing
      const { file, published_at: published } = stat.value
      if (file === undefined) {
        throw registryError('not_found', `Extension ${type}/${extension} version ${version} has no file`)
      }
      const wanted: Omit<Wanted, 'sources'> = {
        file,
        local: backend.local,
        ref: { instance: backend.name, type, name: extension, version }
      }
      const download: Download = {
        file,
        published,
        digest: await downloads.look(wanted),
        deadline,
        late: () => late(backend.name),
        open: async signal => {
          const sources = sourcesOf(
            backend,
            file,
            async ({ signal }) => await backend.open(type, extension, version, { signal })
          )
          const content = await openWithin(
            backend.name,
            deadline,
            signal,
            async signal => await downloads.open({ ...wanted, sources }, signal)
          )
          if (content === undefined) throw missing
          return content
        }
      }
      return wrap(
        download,
        [result, stat],
        stat.error === undefined ? result.stale : [{ instance: backend.name, error: stat.error }],
        []
      )
    },

    /** Returns what the instances skip, in the order of ownership, with why and since when. No upstream is asked. */
    skipped (): SkippedReport {
      const reports = instances.map(backend => backend.skipped())
      return { items: reports.flatMap(({ items }) => items), counts: reports.flatMap(({ counts }) => counts) }
    },

    /**
     * What the cached listings hold now, without asking anybody: extensions by type and source, and shadowed twins by
     * instance.
     */
    census () {
      const known = instances.map(backend => ({
        instance: backend.name,
        unread: nothing,
        types: new Map(extensionTypes.map(type => [type, backend.peek(type) ?? none]))
      }))
      const { extensions, shadowed } = views.merge(known, 'census')
      return { extensions, shadowed }
    }
  }
}

export type Catalog = ReturnType<typeof createCatalog>
