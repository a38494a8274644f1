import type { FastifyBaseLogger } from 'fastify'
import type { Downloads, Download, OpenContent } from '../../plugins/downloads/download.ts'
import { late, withDeadline } from '../../lib/deadline.ts'
import { registryError, type RegistryError } from '../../lib/errors.ts'
import {
  toResult,
  toInstanceError,
  worstError,
  type CachedResult,
  type ListPage,
  type Result,
  type InstanceIssue
} from '../../lib/result.ts'
import {
  extensionTypes,
  extensionSources,
  type Extension,
  type ExtensionVersion,
  type ExtensionType
} from '../../schemas/extension.ts'
import type { Backend, ReadOptions, SkippedReport, VersionName, CachedRead } from '../cached/backend.ts'
import { createCatalogViews, createMergedListings, type ListScope, type CatalogView, type Scope } from './view.ts'
import type { DownloadSource, OpenAt } from '../../plugins/downloads/transfer/source.ts'
import type { FileReference } from '../driver/driver.ts'

interface ScopedName extends Scope { type: ExtensionType, name: string }

/** Returns instances in order of ownership: smaller priority first, then Gitea before OCI, then order of appearance. */
function byOwnership (backends: readonly Backend[]): Backend[] {
  return [...backends].sort((a, b) =>
    a.priority - b.priority || extensionSources.indexOf(a.source) - extensionSources.indexOf(b.source)
  )
}

/** Returns the function that selects the instances of a scope, in order of ownership. */
function createScopes (instances: readonly Backend[]): (scope: Scope) => readonly Backend[] {
  const ofSource = new Map(extensionSources.map(source => [source, instances.filter(one => one.source === source)]))
  return ({ source }) => source === undefined ? instances : ofSource.get(source) ?? []
}

interface OwnersDependencies extends Pick<CatalogDependencies, 'negativeTtl'> {
  /** Returns the instances of a scope, in order of ownership. */
  instancesOf: (scope: Scope) => readonly Backend[]
}

/** The owner of an extension and its result; or the age in seconds of the oldest absence, when no instance has it. */
export type Owned<T> = { backend: Backend, result: Result<T>, oldest?: never } | {
  backend?: never,
  result?: never,
  oldest: number
}

/**
 * Creates the reads from the owner of a name. An extension belongs to the first instance, in order of ownership, that
 * has it. An instance that is unavailable keeps its extensions: unless its last complete listing lacks the name, its
 * error is thrown.
 */
function createOwners ({ instancesOf, negativeTtl }: OwnersDependencies) {
  async function first<T> (
    scope: Scope,
    read: (backend: Backend) => Promise<CachedResult<T | undefined>>
  ): Promise<Owned<T>> {
    const doubts: InstanceIssue[] = []
    const absences: Array<CachedResult<unknown>> = []
    for (const backend of instancesOf(scope)) {
      const result = await read(backend).catch((error: unknown) => {
        throw worstError([...doubts, { instance: backend.name, error: toInstanceError(error) }])
      })
      const { value, error } = result
      const stale = error === undefined ? doubts : [...doubts, { instance: backend.name, error }]
      if (value !== undefined) return { backend, result: toResult(value, [...absences, result], stale) }
      if (error !== undefined) doubts.push({ instance: backend.name, error })
      absences.push(result)
    }
    if (doubts.length > 0) throw worstError(doubts)
    return { oldest: Math.max(0, ...absences.map(({ age }) => age)) }
  }

  return {
    /**
     * Returns the owner's value if the caches alone decide it; undefined otherwise, also when no instance has it, and
     * nothing is counted then.
     */
    cached<T> (scope: Scope, read: (backend: Backend) => CachedRead<T | undefined> | undefined): Result<T> | undefined {
      const reads: Array<{ backend: Backend, result: CachedRead<T | undefined> }> = []
      for (const backend of instancesOf(scope)) {
        const result = read(backend)
        if (result === undefined) return undefined
        reads.push({ backend, result })
        if (result.value === undefined) continue
        for (const { backend, result } of reads) backend.use(result.uses)
        return toResult(result.value, reads.map(({ result }) => result))
      }
      return undefined
    },

    /**
     * Reads the owner's value. An absence is only returned when the cached entries are as young as a 404 requires.
     * Throws when an instance that may be the owner is unavailable.
     */
    async read<T> (
      scope: Scope,
      signal: AbortSignal,
      read: (backend: Backend, options: ReadOptions) => Promise<CachedResult<T | undefined>>
    ): Promise<Owned<T>> {
      const found = await first(scope, backend => read(backend, { signal }))
      if (found.result !== undefined || found.oldest <= negativeTtl) return found
      return await first(scope, backend => read(backend, { signal, maxAge: negativeTtl }))
    }
  }
}
type Owners = ReturnType<typeof createOwners>

/** The file of a version of the catalog. It is data only; `open` of the catalog opens it. */
export interface CatalogFile extends Download {
  ref: VersionName & { instance: string }
  file: FileReference
}

interface CatalogFilesDependencies extends Pick<CatalogDependencies, 'downloads'> {
  /** Every instance, in order of ownership. */
  instances: readonly Backend[]
  owners: Pick<Owners, 'read'>
  /** Maximum milliseconds until the first byte of a file. */
  budgetMs: number
}

const notFound = ({ type, name, version }: VersionName, state = 'not found'): RegistryError =>
  registryError('not_found', `Extension ${type}/${name} version ${version} ${state}`)

/** Creates the reads of the files of all instances. */
function createCatalogFiles ({ instances, downloads, owners, budgetMs }: CatalogFilesDependencies) {
  /** Returns the sources of a file: its owner, and other instances that have the same content. */
  function sourcesOf (owner: Backend, { ref, file }: CatalogFile): DownloadSource[] {
    let opened: FileReference | undefined
    const first: DownloadSource = {
      instance: owner.name,
      async open (at) {
        if (opened !== undefined) return await owner.open(opened, at)
        const artifact = await owner.open(file, { signal: at.signal }, ref)
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
          : [{ instance: backend.name, open: async (at: OpenAt) => await backend.open(same, at) }]
      })
    return [first, ...others]
  }

  return {
    /**
     * Returns the file of a version of the extension's owner, not opened yet. Throws `not_found` when the version does
     * not exist, or has no file.
     */
    async file ({ version, ...extension }: ScopedName & { version: string }): Promise<Result<CatalogFile>> {
      const { type, name } = extension
      const openBy = performance.now() + budgetMs
      return await withDeadline(budgetMs, late, async signal => {
        const { backend, result } = await owners.read(
          extension,
          signal,
          (backend, options) => backend.has(type, name, options)
        )
        if (backend === undefined) throw notFound({ type, name, version })
        const ref = { instance: backend.name, type, name, version }
        const stat = await backend.stat(type, name, version, { signal })
        if (stat.value === undefined) throw stat.error ?? notFound(ref)
        const { file, published_at: published } = stat.value
        if (file === undefined) throw notFound(ref, 'has no file')
        const known = await downloads.look({ ref, file })
        const stale = stat.error === undefined ? result.stale : [{ instance: backend.name, error: stat.error }]
        return toResult({ ref, file, published, local: backend.local, openBy, ...known }, [result, stat], stale)
      })
    },

    /**
     * Opens a file, which may have been replaced by another file meanwhile. Throws `not_found` when it no longer
     * exists, the reason of `signal` when that is aborted first, and errors of the table.
     */
    async open (file: CatalogFile, { signal }: { signal: AbortSignal }): Promise<OpenContent> {
      const owner = instances.find(({ name }) => name === file.ref.instance)
      const content = owner && await downloads.open(file, { sources: sourcesOf(owner, file), signal })
      if (content === undefined) throw notFound(file.ref)
      return content
    }
  }
}

export interface CatalogDependencies {
  downloads: Pick<Downloads, 'look' | 'open'>
  /** In order of appearance in the configuration, Gitea's before OCI's. */
  backends: readonly Backend[]
  log: FastifyBaseLogger
  /** Maximum age of the cached entries that a 404 rests on, in seconds. */
  negativeTtl: number
  /** Maximum seconds of one read, over all instances. */
  budget: number
}

/** A single array: a view is kept while its listings are the same arrays. */
const noExtensions: readonly Extension[] = []

type PageQuery = ListScope & { limit: number, offset: number }
type MatchQuery = ListScope & { q: string, limit: number }

const toPage = (view: Result<CatalogView>, query: PageQuery): Result<ListPage<Extension>> =>
  ({ ...view, value: { items: view.value.page(query), total: view.value.extensions.length } })

/**
 * Creates one catalog over all instances. An extension belongs to the first instance, in order of ownership, that has
 * it; `source` limits that to instances of one kind. The `cached…` methods return a result at once if every part of it
 * is fresh in the cache, and undefined otherwise.
 */
export function createCatalog ({ backends, downloads, log, negativeTtl, budget }: CatalogDependencies) {
  const instances = byOwnership(backends)
  const instancesOf = createScopes(instances)
  const views = createCatalogViews(log)
  const listings = createMergedListings({ views, instancesOf })
  const owners = createOwners({ instancesOf, negativeTtl })
  const files = createCatalogFiles({ instances, owners, downloads, budgetMs: budget * 1000 })

  const inTime = async <T>(read: (signal: AbortSignal) => Promise<T>): Promise<T> =>
    await withDeadline(budget * 1000, late, read)

  async function readOwned<T> (
    name: ScopedName,
    read: (backend: Backend, options: ReadOptions) => Promise<CachedResult<T | undefined>>
  ): Promise<Result<T>> {
    const { result } = await inTime(signal => owners.read(name, signal, read))
    if (result === undefined) throw registryError('not_found', `Extension ${name.type}/${name.name} not found`)
    return result
  }

  return {
    /** Every instance, in order of ownership. */
    instances,

    cachedList: (query: PageQuery): Result<ListPage<Extension>> | undefined =>
      listings.cached(query, view => toPage(view, query)),

    /** Returns a page of all extensions, by type and then by name. */
    list: async (query: PageQuery): Promise<Result<ListPage<Extension>>> =>
      toPage(await inTime(signal => listings.read(query, signal)), query),

    /** Returns undefined for a large catalog, too, unless the matches are cached. */
    cachedSearch: (query: MatchQuery): Result<ListPage<Extension>> | undefined =>
      listings.cached(query, view => {
        const value = view.value.cachedSearch(query.q, query.limit)
        return value && { ...view, value }
      }),

    /** Returns the best matches for `q`, in the order of {@link search}. */
    search: async (query: MatchQuery): Promise<Result<ListPage<Extension>>> =>
      await inTime(async signal => {
        const view = await listings.read(query, signal)
        return { ...view, value: await view.value.search(query.q, query.limit, signal) }
      }),

    cachedFind: (name: ScopedName): Result<Extension> | undefined =>
      owners.cached(name, backend => backend.cachedFind(name.type, name.name)),

    /** Returns an extension at its current version. Throws `not_found`. */
    find: async (name: ScopedName): Promise<Result<Extension>> =>
      await readOwned(name, (backend, options) => backend.find(name.type, name.name, options)),

    cachedVersions: (name: ScopedName): Result<readonly ExtensionVersion[]> | undefined =>
      owners.cached(name, backend => backend.cachedVersions(name.type, name.name)),

    /** Returns all versions of an extension, highest first. Throws `not_found`. */
    versions: async (name: ScopedName): Promise<Result<readonly ExtensionVersion[]>> =>
      await readOwned(name, (backend, options) => backend.versions(name.type, name.name, options)),

    file: files.file,
    open: files.open,

    /** Returns the skipped items of all instances, in order of ownership, with reason and time. Sends no request. */
    skipped (): SkippedReport {
      const reports = instances.map(backend => backend.skipped())
      return { items: reports.flatMap(({ items }) => items), counts: reports.flatMap(({ counts }) => counts) }
    },

    /** Returns the extensions of the cached listings, and the number of shadowed ones by instance. Sends no request. */
    async census (): Promise<Pick<CatalogView, 'extensions' | 'shadowed'>> {
      const listed = instances.map(backend => ({
        instance: backend.name,
        unread: new Set<string>(),
        types: new Map(extensionTypes.map(type => [type, backend.peek(type) ?? noExtensions]))
      }))
      return await views.merge(listed, 'census')
    }
  }
}
export type Catalog = ReturnType<typeof createCatalog>
