import type { FastifyBaseLogger } from 'fastify'
import { LRUCache } from 'lru-cache'
import { extensionTypes, type Extension, type ExtensionSource, type ExtensionType } from '../../schemas/extension.ts'
import { search, searchable, type Searchable } from './search.ts'
import {
  toInstanceError,
  toResult,
  worstError,
  type ListPage,
  type CachedResult,
  type InstanceIssue,
  type Result
} from '../../lib/result.ts'
import type { RegistryError } from '../../lib/errors.ts'
import type { Backend, CachedRead, Listing } from '../cached/backend.ts'

/** Instances of one kind, or all. */
export interface Scope { source?: ExtensionSource | undefined }

/** Extensions of one type, or of all. */
export interface ListScope extends Scope { type?: ExtensionType | undefined }

/** The part of one instance in a merge. */
interface InstanceListing {
  instance: string
  types: ReadonlyMap<ExtensionType, readonly Extension[]>
  /** `{type}/{name}` of extensions that it may have but could not read: no later instance is shown as their owner. */
  unread: ReadonlySet<string>
}

/** The extensions of some instances together, at one moment. */
export interface CatalogView {
  /** Each (type, name) once, as its owner has it: by type, then by name. */
  extensions: readonly Extension[]
  /** Number of extensions of each instance that an earlier instance owns. */
  shadowed: ReadonlyMap<string, number>
  /** Returns a part of the list; the same array each time, while it is cached. */
  page: (range: { limit: number, offset: number }) => readonly Extension[]
  /** Returns the best matches for a query, the same way, and their number. */
  search: (query: string, limit: number) => ListPage<Extension>
}

/** Maximum shadowed extensions that are logged. */
const maxLogged = 10_000

/** Maximum size of the cached pages of a view, in bytes of their representations (estimated). */
const maxPageBytes = 16 * 1024 * 1024
/** Estimated bytes of a page, and of an extension without its description and tags. */
const overheadBytes = 512
/** Maximum extensions in the cached searches of a view. */
const maxMatches = 200_000

const sizeOf = (page: readonly Extension[]): number =>
  page.reduce(
    (sum, { description, tags = [] }) =>
      tags.reduce((sum, tag) => sum + tag.length, sum + overheadBytes + description.length),
    overheadBytes
  )

/** Returns whether a listing is the same as before. */
function isSame ({ instance, types, unread }: InstanceListing, before: InstanceListing | undefined): boolean {
  if (before === undefined || before.instance !== instance) return false
  if (before.types === types && before.unread === unread) return true
  if (before.types.size !== types.size || before.unread.size !== unread.size) return false
  for (const [type, extensions] of types) if (before.types.get(type) !== extensions) return false
  for (const name of unread) if (!before.unread.has(name)) return false
  return true
}

/** Returns the pages and searches of a merged list. The same array is returned again while it is cached. */
function createPages (
  extensions: readonly Extension[],
  prepare: (extension: Extension) => Searchable
): Pick<CatalogView, 'page' | 'search'> {
  const pages = new LRUCache<string, readonly Extension[]>({ maxSize: maxPageBytes, sizeCalculation: sizeOf })
  const matches = new LRUCache<string, readonly Extension[]>({
    maxSize: maxMatches,
    sizeCalculation: ({ length }) => length + 1
  })
  let candidates: Searchable[] | undefined

  /** Returns part of a list. `list` has a suffix of its own in the keys of the cached pages. */
  function part (list: readonly Extension[], suffix: string, start: number, end: number): readonly Extension[] {
    const key = `${Math.min(start, list.length)}-${Math.min(end, list.length)}${suffix}`
    let page = pages.get(key)
    if (page === undefined) pages.set(key, page = list.slice(start, end))
    return page
  }

  function find (query: string): readonly Extension[] {
    let found = matches.get(query)
    if (found === undefined) matches.set(query, found = search(candidates ??= extensions.map(prepare), query))
    return found
  }

  return {
    page: ({ limit, offset }) => part(extensions, '', offset, offset + limit),
    search: (query, limit) => {
      const normalized = query.trim().toLowerCase()
      const found = find(normalized)
      return { items: part(found, `?${normalized}`, 0, limit), total: found.length }
    }
  }
}

/** Creates merged views. A view is kept while its listings do not change. */
export function createCatalogViews (log: FastifyBaseLogger) {
  const latest = new Map<string, { listings: readonly InstanceListing[], view: CatalogView }>()
  const logged = new Set<string>()
  const prepared = new WeakMap<Extension, Searchable>()

  function prepare (extension: Extension): Searchable {
    let ready = prepared.get(extension)
    if (ready === undefined) prepared.set(extension, ready = searchable(extension))
    return ready
  }

  function shadow (instance: string, { type, name }: Extension, owner: string): void {
    const twin = `${instance}:${type}/${name}`
    if (logged.has(twin) || logged.size >= maxLogged) return
    logged.add(twin)
    log.info({ extension: `${type}/${name}`, owner, shadowed: instance }, 'an extension is shadowed by its owner')
  }

  /** Returns the extensions of one type, by name, each as its owner has it. Counts the others in `shadowed`. */
  function mergeType (
    type: ExtensionType,
    listings: readonly InstanceListing[],
    shadowed: Map<string, number>
  ): readonly Extension[] {
    const relevant = listings.filter(({ types, unread }) => unread.size > 0 || (types.get(type)?.length ?? 0) > 0)
    // The listing of one instance is in order.
    if (relevant.length <= 1) return relevant[0]?.types.get(type) ?? []
    const owners = new Map<string, { extension: Extension, instance: string }>()
    const held = new Set<string>()
    for (const { instance, types, unread } of relevant) {
      for (const extension of types.get(type) ?? []) {
        if (held.has(`${type}/${extension.name}`)) continue
        const owner = owners.get(extension.name)
        if (owner === undefined) owners.set(extension.name, { extension, instance })
        else {
          shadowed.set(instance, (shadowed.get(instance) ?? 0) + 1)
          shadow(instance, extension, owner.instance)
        }
      }
      for (const name of unread) if (!owners.has(name.slice(type.length + 1))) held.add(name)
    }
    return [...owners.values()].map(({ extension }) => extension).sort((a, b) => a.name < b.name ? -1 : 1)
  }

  function createView (listings: readonly InstanceListing[]): CatalogView {
    const shadowed = new Map<string, number>()
    const extensions = extensionTypes.flatMap(type => mergeType(type, listings, shadowed))
    return { extensions, shadowed, ...createPages(extensions, prepare) }
  }

  return {
    /**
     * Merges listings in the order given: the first instance that has an extension owns it. The last view of each
     * `scope` is kept.
     */
    merge (listings: readonly InstanceListing[], scope: string): CatalogView {
      const last = latest.get(scope)
      if (
        last?.listings.length === listings.length &&
        listings.every((listing, at) => isSame(listing, last.listings[at]))
      ) { return last.view }
      const view = createView(listings)
      latest.set(scope, { listings, view })
      return view
    }
  }
}
type CatalogViews = ReturnType<typeof createCatalogViews>

export interface MergedListingsDependencies {
  views: CatalogViews
  /** Returns the instances of a scope, in order of ownership. */
  instancesOf: (scope: Scope) => readonly Backend[]
}

/** The listing of one instance, or the error of its read. */
type InstanceRead = { backend: Backend, result: CachedResult<Listing>, error?: never } | {
  backend: Backend,
  result?: never,
  error: RegistryError
}

/** One array for each type, since backends cache merged listings by the identity of the array. */
const onlyTypes: Record<ExtensionType, readonly ExtensionType[]> = {
  provider: ['provider'],
  taskserv: ['taskserv'],
  cluster: ['cluster']
}
const typesOf = ({ type }: ListScope): readonly ExtensionType[] => type === undefined ? extensionTypes : onlyTypes[type]

/** Creates the reads of the listings of all instances of a scope, merged by ownership. */
export function createMergedListings ({ views, instancesOf }: MergedListingsDependencies) {
  /** Returns the merged view of listings. Throws when no instance has one. */
  function merge (scope: ListScope, reads: readonly InstanceRead[]): Result<CatalogView> {
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
    if (results.length === 0 && reads.length > 0) throw worstError(missing)
    return toResult(views.merge(listings, `${scope.source ?? ''}:${scope.type ?? ''}`), results, stale, missing)
  }

  async function readListing (backend: Backend, scope: ListScope, signal: AbortSignal): Promise<InstanceRead> {
    try {
      return { backend, result: await backend.list(typesOf(scope), { signal }) }
    } catch (error) {
      return { backend, error: toInstanceError(error) }
    }
  }

  return {
    /** Returns the view if every listing is fresh in the cache; undefined otherwise, and nothing is counted then. */
    cached (scope: ListScope): Result<CatalogView> | undefined {
      const reads: Array<{ backend: Backend, result: CachedRead<Listing> }> = []
      for (const backend of instancesOf(scope)) {
        const result = backend.cachedList(typesOf(scope))
        if (result === undefined) return undefined
        reads.push({ backend, result })
      }
      for (const { backend, result } of reads) backend.use(result.uses)
      return merge(scope, reads)
    },

    /** Reads the listings of all instances at once. Instances that fail are issues of the result. */
    read: async (scope: ListScope, signal: AbortSignal): Promise<Result<CatalogView>> =>
      merge(scope, await Promise.all(instancesOf(scope).map(backend => readListing(backend, scope, signal))))
  }
}
