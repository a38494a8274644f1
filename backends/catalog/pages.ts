import { LRUCache } from 'lru-cache'
import type { LimitFunction } from 'p-limit'
import { untilAborted } from '../../lib/deadline.ts'
import { registryError } from '../../lib/errors.ts'
import type { Extension } from '../../schemas/extension.ts'
import type { ListPage } from '../../lib/result.ts'
import { search, searchYielding, type Searchable } from './search.ts'

/** The pages and searches of one list. */
export interface Pages {
  /** Returns a part of the list; the same array each time, while it is cached. */
  page: (range: { limit: number, offset: number }) => readonly Extension[]
  /**
   * Returns the best matches for a query, the same way, and their number. Returns undefined in a large catalog, unless
   * the matches are cached.
   */
  cachedSearch: (query: string, limit: number) => ListPage<Extension> | undefined
  /**
   * Returns the same in a catalog of any size, and yields to the event loop. Throws the reason of `signal` when that is
   * aborted first.
   */
  search: (query: string, limit: number, signal: AbortSignal) => Promise<ListPage<Extension>>
}

/** Maximum size of the cached pages of a view, in bytes of their representations (estimated). */
const maxPageBytes = 16 * 1024 * 1024
/** Estimated bytes of a page, and of an extension without its description and tags. */
const overheadBytes = 512
/** Maximum extensions of a catalog that is searched or merged at once, which takes a few milliseconds. */
export const maxAtOnce = 5000
/** Maximum number of searches of large catalogs that wait; each takes some tens of milliseconds. */
const maxWaiting = 64
/** Maximum extensions in the cached searches of a view. */
const maxMatches = 200_000

const sizeOf = (page: readonly Extension[]): number =>
  page.reduce(
    (sum, { description, tags = [] }) =>
      tags.reduce((sum, tag) => sum + tag.length, sum + overheadBytes + description.length),
    overheadBytes
  )

/**
 * Returns the pages and searches of a merged list. The same array is returned again while it is cached. `inTurn` runs
 * the searches of large catalogs one after another.
 */
export function createCatalogPages (
  extensions: readonly Extension[],
  prepare: (extension: Extension) => Searchable,
  inTurn: LimitFunction
): Pages {
  const pages = new LRUCache<string, readonly Extension[]>({ maxSize: maxPageBytes, sizeCalculation: sizeOf })
  const matches = new LRUCache<string, readonly Extension[]>({
    maxSize: maxMatches,
    sizeCalculation: ({ length }) => length + 1
  })
  let candidates: Searchable[] | undefined
  const searching = new Map<string, Promise<readonly Extension[]>>()

  /** Returns part of a list. `list` has a suffix of its own in the keys of the cached pages. */
  function part (list: readonly Extension[], suffix: string, start: number, end: number): readonly Extension[] {
    const key = `${Math.min(start, list.length)}-${Math.min(end, list.length)}${suffix}`
    let page = pages.get(key)
    if (page === undefined) pages.set(key, page = list.slice(start, end))
    return page
  }

  /** Returns the matches of a query, which is in lower case, if they are cached or the catalog is small. */
  function cachedMatches (query: string): readonly Extension[] | undefined {
    let found = matches.get(query)
    if (found === undefined && extensions.length <= maxAtOnce) {
      matches.set(query, found = search(candidates ??= extensions.map(prepare), query))
    }
    return found
  }

  /** Searches a large catalog. Concurrent searches for the same query are one. */
  function findMatches (query: string): Promise<readonly Extension[]> {
    let found = searching.get(query)
    if (found === undefined) {
      if (inTurn.pendingCount >= maxWaiting) throw registryError('service_unavailable', 'The registry is overloaded')
      const matching = async () => await searchYielding(extensions, prepare, query)
      found = inTurn(matching).finally(() => { searching.delete(query) })
      found.then(found => { matches.set(query, found) }, () => {})
      searching.set(query, found)
    }
    return found
  }

  const toPage = (query: string, found: readonly Extension[], limit: number): ListPage<Extension> =>
    ({ items: part(found, `?${query}`, 0, limit), total: found.length })
  const normalized = (query: string): string => query.trim().toLowerCase()

  return {
    page: ({ limit, offset }) => part(extensions, '', offset, offset + limit),
    cachedSearch (given, limit) {
      const query = normalized(given)
      const found = cachedMatches(query)
      return found && toPage(query, found, limit)
    },
    async search (given, limit, signal) {
      const query = normalized(given)
      return toPage(query, cachedMatches(query) ?? await untilAborted(findMatches(query), signal), limit)
    }
  }
}
