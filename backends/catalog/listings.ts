import type { RegistryError } from '../../lib/errors.ts'
import {
  type CachedResult,
  type InstanceIssue,
  type Result,
  errorsOf,
  toInstanceError,
  toResult,
  worstError
} from '../../lib/result.ts'
import { extensionTypes, type ExtensionType } from '../../schemas/extension.ts'
import type { Backend, CachedRead, Listing } from '../cached/backend.ts'
import type { ListScope, Scope } from './instances.ts'
import type { CatalogView, CatalogViews, InstanceListing } from './view.ts'

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
    if (results.length === 0 && reads.length > 0) throw worstError(errorsOf(missing))
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
