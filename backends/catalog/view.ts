import pLimit from 'p-limit'
import type { FastifyBaseLogger } from 'fastify'
import { extensionTypes, type Extension, type ExtensionSource, type ExtensionType } from '../../schemas/extension.ts'
import { forEachYielding } from '../../lib/yielding.ts'
import { createCatalogPages, maxAtOnce, type Pages } from './pages.ts'
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

const areSame = (listings: readonly InstanceListing[], before: readonly InstanceListing[]): boolean =>
  listings.length === before.length && listings.every((listing, at) => isSame(listing, before[at]))

/** Returns whether a merge takes at most some milliseconds: only one listing, or few extensions. */
function isShort (listings: readonly InstanceListing[]): boolean {
  if (listings.length <= 1) return true
  let extensions = 0
  for (const { types } of listings) for (const list of types.values()) extensions += list.length
  return extensions <= maxAtOnce
}

/** An extension of one instance. */
interface Held { instance: string, extension: Extension }

/** The owner of a name, if there is one, and the extensions of the name that are shadowed. */
interface Merged { owner: Held | undefined, others: readonly Held[] }

/**
 * Merges the listings of instances, which are sorted by name, without sorting them again. A name that an instance could
 * not read has no later owner.
 */
function * mergeByName (type: ExtensionType, listings: readonly InstanceListing[]): Generator<Merged> {
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
  const inProgress = new Map<string, { listings: readonly InstanceListing[], view: Promise<CatalogView> }>()
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

  /**
   * Begins the merge of one type. After `take` has taken each of the `steps`, `merged` has the extensions by name, each
   * as its owner has it, and the others are counted in `shadowed`.
   */
  function beginMerge (
    type: ExtensionType,
    listings: readonly InstanceListing[],
    shadowed: Map<string, number>
  ): { merged: readonly Extension[], steps: Iterable<Merged>, take: (step: Merged) => void } {
    const relevant = listings.filter(({ types, unread }) => unread.size > 0 || (types.get(type)?.length ?? 0) > 0)
    // The listing of one instance is in order.
    const only = relevant.length <= 1 ? relevant[0]?.types.get(type) ?? [] : undefined
    const merged: Extension[] = []
    return {
      merged: only ?? merged,
      steps: only === undefined ? mergeByName(type, relevant) : [],
      take ({ owner, others }) {
        if (owner !== undefined) merged.push(owner.extension)
        for (const { instance, extension } of others) {
          shadowed.set(instance, (shadowed.get(instance) ?? 0) + 1)
          if (owner !== undefined) shadow(instance, extension, owner.instance)
        }
      }
    }
  }

  function toView (
    byType: ReadonlyArray<readonly Extension[]>,
    shadowed: ReadonlyMap<string, number>
  ): CatalogView {
    const extensions = byType.flat()
    const shown = [...latest.values()].reduce((most, { view }) => Math.max(most, view.extensions.length), 0)
    if (prepared.size > 2 * Math.max(shown, extensions.length)) prepared.clear()
    return { extensions, shadowed, ...createCatalogPages(extensions, prepare, inTurn) }
  }

  function mergeAtOnce (listings: readonly InstanceListing[]): CatalogView {
    const shadowed = new Map<string, number>()
    const byType = extensionTypes.map(type => {
      const { merged, steps, take } = beginMerge(type, listings, shadowed)
      for (const step of steps) take(step)
      return merged
    })
    return toView(byType, shadowed)
  }

  async function mergeYielding (listings: readonly InstanceListing[]): Promise<CatalogView> {
    const shadowed = new Map<string, number>()
    const byType: Array<readonly Extension[]> = []
    for (const type of extensionTypes) {
      const { merged, steps, take } = beginMerge(type, listings, shadowed)
      await forEachYielding(steps, take)
      byType.push(merged)
    }
    return toView(byType, shadowed)
  }

  /** Returns the view of a scope if its listings are the same as before, or if the merge takes a short time. */
  function cached (listings: readonly InstanceListing[], scope: string): CatalogView | undefined {
    const last = latest.get(scope)
    if (last !== undefined && areSame(listings, last.listings)) return last.view
    if (!isShort(listings)) return undefined
    const view = mergeAtOnce(listings)
    latest.set(scope, { listings, view })
    return view
  }

  return {
    cached,

    /**
     * Merges listings in the order given: the first instance that has an extension owns it. The last view of each
     * `scope` is kept. The merge of large catalogs yields to the event loop; requests at the same time share it.
     */
    async merge (listings: readonly InstanceListing[], scope: string): Promise<CatalogView> {
      const known = cached(listings, scope)
      if (known !== undefined) return known
      let merging = inProgress.get(scope)
      if (merging === undefined || !areSame(listings, merging.listings)) {
        const started = { listings, view: mergeYielding(listings) }
        inProgress.set(scope, merging = started)
        started.view.then(view => {
          if (inProgress.get(scope) !== started) return
          latest.set(scope, { listings, view })
          inProgress.delete(scope)
        }, () => { inProgress.delete(scope) })
      }
      return await merging.view
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
  /**
   * Returns the listings to merge, and the function that makes the result of their view. Throws when no instance has a
   * listing.
   */
  function collect (reads: readonly InstanceRead[]) {
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
    return { listings, resultOf: (view: CatalogView): Result<CatalogView> => toResult(view, results, stale, missing) }
  }

  const keyOf = ({ source, type }: ListScope): string => `${source ?? ''}:${type ?? ''}`

  async function readListing (backend: Backend, scope: ListScope, signal: AbortSignal): Promise<InstanceRead> {
    try {
      return { backend, result: await backend.list(typesOf(scope), { signal }) }
    } catch (error) {
      return { backend, error: toInstanceError(error) }
    }
  }

  return {
    /**
     * Returns the result of `read` for the view if every listing is fresh in the cache, and merged or small. Otherwise,
     * or if that result is undefined, returns undefined, and nothing is counted.
     */
    cached<T> (scope: ListScope, read: (view: Result<CatalogView>) => T | undefined): T | undefined {
      const reads: Array<{ backend: Backend, result: CachedRead<Listing> }> = []
      for (const backend of instancesOf(scope)) {
        const result = backend.cachedList(typesOf(scope))
        if (result === undefined) return undefined
        reads.push({ backend, result })
      }
      const { listings, resultOf } = collect(reads)
      const view = views.cached(listings, keyOf(scope))
      const value = view && read(resultOf(view))
      if (value !== undefined) for (const { backend, result } of reads) backend.use(result.uses)
      return value
    },

    /** Reads the listings of all instances at once. Instances that fail are issues of the result. */
    async read (scope: ListScope, signal: AbortSignal): Promise<Result<CatalogView>> {
      const reads = await Promise.all(instancesOf(scope).map(backend => readListing(backend, scope, signal)))
      const { listings, resultOf } = collect(reads)
      return resultOf(await views.merge(listings, keyOf(scope)))
    }
  }
}
