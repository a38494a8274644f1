import type { FastifyBaseLogger } from 'fastify'
import type { Downloads } from '../../plugins/downloads/download.ts'
import { late, withDeadline } from '../../lib/deadline.ts'
import { registryError } from '../../lib/errors.ts'
import type { CachedResult, ListPage, Result } from '../../lib/result.ts'
import { extensionTypes, type Extension, type ExtensionVersion } from '../../schemas/extension.ts'
import type { Backend, ReadOptions, SkippedReport } from '../cached/backend.ts'
import { createCatalogFiles } from './files.ts'
import { byOwnership, createScopes, type ScopedName } from './instances.ts'
import { type ListScope, createCatalogViews, type CatalogView, createMergedListings } from './view.ts'
import { createOwners } from './owners.ts'

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

const toMatches = (view: Result<CatalogView>, { q, limit }: MatchQuery): Result<ListPage<Extension>> =>
  ({ ...view, value: view.value.search(q, limit) })

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

  const readView = async (scope: ListScope): Promise<Result<CatalogView>> =>
    await withDeadline(budget * 1000, late, signal => listings.read(scope, signal))

  async function readOwned<T> (
    name: ScopedName,
    read: (backend: Backend, options: ReadOptions) => Promise<CachedResult<T | undefined>>
  ): Promise<Result<T>> {
    const { result } = await withDeadline(budget * 1000, late, signal => owners.read(name, signal, read))
    if (result === undefined) throw registryError('not_found', `Extension ${name.type}/${name.name} not found`)
    return result
  }

  return {
    /** Every instance, in order of ownership. */
    instances,

    cachedList (query: PageQuery): Result<ListPage<Extension>> | undefined {
      const view = listings.cached(query)
      return view && toPage(view, query)
    },

    /** Returns a page of all extensions, by type and then by name. */
    list: async (query: PageQuery): Promise<Result<ListPage<Extension>>> => toPage(await readView(query), query),

    cachedSearch (query: MatchQuery): Result<ListPage<Extension>> | undefined {
      const view = listings.cached(query)
      return view && toMatches(view, query)
    },

    /** Returns the best matches for `q`, in the order of {@link search}. */
    search: async (query: MatchQuery): Promise<Result<ListPage<Extension>>> => toMatches(await readView(query), query),

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
    census () {
      const listed = instances.map(backend => ({
        instance: backend.name,
        unread: new Set<string>(),
        types: new Map(extensionTypes.map(type => [type, backend.peek(type) ?? noExtensions]))
      }))
      const { extensions, shadowed } = views.merge(listed, 'census')
      return { extensions, shadowed }
    }
  }
}
export type Catalog = ReturnType<typeof createCatalog>
