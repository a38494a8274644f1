import pLimit from 'p-limit'
import type { FastifyBaseLogger } from 'fastify'
import { extensionTypes, type Extension, type ExtensionSource, type ExtensionType } from '../../schemas/extension.ts'
import { createCatalogPages, type Pages } from './pages.ts'
import { searchable, type Searchable } from './search.ts'
import {
  toInstanceError,
  toResult,
  worstError,
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
export interface CatalogView extends Pages {
  /** Each (type, name) once, as its owner has it: by type, then by name. */
  extensions: readonly Extension[]
  /** Number of extensions of each instance that an earlier instance owns. */
  shadowed: ReadonlyMap<string, number>
}

/** Maximum shadowed extensions that are logged. */
const maxLogged = 10_000

/** Returns whether a listing is the same as before. */
function isSame ({ instance, types, unread }: InstanceListing, before: InstanceListing | undefined): boolean {
  if (before === undefined || before.instance !== instance) return false
  if (before.types === types && before.unread === unread) return true
  if (before.types.size !== types.size || before.unread.size !== unread.size) return false
  for (const [type, extensions] of types) if (before.types.get(type) !== extensions) return false
  for (const name of unread) if (!before.unread.has(name)) return false
  return true
}

/** An extension of one instance. */
interface Held { instance: string, extension: Extension }

/**
 * Merges the listings of instances, which are sorted by name, without sorting them again. For each name it returns the
 * owner, if there is one, and the extensions that are shadowed. A name that an instance could not read has no later
 * owner.
 */
function * mergeByName (
  type: ExtensionType,
  listings: readonly InstanceListing[]
): Generator<{ owner: Held | undefined, others: readonly Held[] }> {
  const lists = listings.map(({ types, ...listing }) => ({ ...listing, list: types.get(type) ?? [], at: 0 }))
  for (;;) {
    let name: string | undefined
    for (const { list, at } of lists) {
      const next = list[at]?.name
      if (next !== undefined && (name === undefined || next < name)) name = next
    }
    if (name === undefined) return
    let owner: Held | undefined
    let isUnread = false
    const others: Held[] = []
    for (const one of lists) {
      const extension = one.list[one.at]
      if (extension?.name === name) {
        one.at++
        const held = { instance: one.instance, extension }
        if (owner !== undefined) others.push(held)
        else if (!isUnread) owner = held
      }
      isUnread ||= one.unread.size > 0 && one.unread.has(`${type}/${name}`)
    }
    yield { owner, others }
  }
}

/** Creates merged views. A view is kept while its listings do not change. */
export function createCatalogViews (log: FastifyBaseLogger) {
  const latest = new Map<string, { listings: readonly InstanceListing[], view: CatalogView }>()
  const logged = new Set<string>()
  // Searches of large catalogs run one after another: together their pieces would hold the event loop.
  const inTurn = pLimit(1)
  // Not a WeakMap: with 100,000 keys, the garbage collector holds the event loop for up to 200 ms to mark its values.
  const prepared = new Map<Extension, Searchable>()

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
    const merged: Extension[] = []
    for (const { owner, others } of mergeByName(type, relevant)) {
      if (owner !== undefined) merged.push(owner.extension)
      for (const { instance, extension } of others) {
        shadowed.set(instance, (shadowed.get(instance) ?? 0) + 1)
        if (owner !== undefined) shadow(instance, extension, owner.instance)
      }
    }
    return merged
  }

  function createView (listings: readonly InstanceListing[]): CatalogView {
    const shadowed = new Map<string, number>()
    const extensions = extensionTypes.flatMap(type => mergeType(type, listings, shadowed))
    const shown = [...latest.values()].reduce((most, { view }) => Math.max(most, view.extensions.length), 0)
    if (prepared.size > 2 * Math.max(shown, extensions.length)) prepared.clear()
    return { extensions, shadowed, ...createCatalogPages(extensions, prepare, inTurn) }
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
    /**
     * Returns the result of `read` for the view if every listing is fresh in the cache. Otherwise, or if that result is
     * undefined, returns undefined, and nothing is counted.
     */
    cached<T> (scope: ListScope, read: (view: Result<CatalogView>) => T | undefined): T | undefined {
      const reads: Array<{ backend: Backend, result: CachedRead<Listing> }> = []
      for (const backend of instancesOf(scope)) {
        const result = backend.cachedList(typesOf(scope))
        if (result === undefined) return undefined
        reads.push({ backend, result })
      }
      const value = read(merge(scope, reads))
      if (value !== undefined) for (const { backend, result } of reads) backend.use(result.uses)
      return value
    },

    /** Reads the listings of all instances at once. Instances that fail are issues of the result. */
    read: async (scope: ListScope, signal: AbortSignal): Promise<Result<CatalogView>> =>
      merge(scope, await Promise.all(instancesOf(scope).map(backend => readListing(backend, scope, signal))))
  }
}
