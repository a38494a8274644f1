import { Value } from '@sinclair/typebox/value'
import { isRegistryError, type RegistryError } from '../../../lib/errors.ts'
import { statusError } from '../../../plugins/upstream/errors.ts'
import type { Upstream } from '../../../plugins/upstream/client.ts'
import { ExtensionDiscovery, ZotRepository, ZotRepositoryPage } from '../../../schemas/oci.ts'
import { isUpstreamResponse } from '../../driver/fail-fast.ts'
import type { RepositoryState } from '../transport.ts'
import type { Authentication } from './authentication.ts'
import { checked, pageBytes } from './paging.ts'

export interface ZotSearchOptions {
  instance: string
  upstream: Upstream
  authentication: Pick<Authentication, 'send'>
  /** Returns the milliseconds of a monotonic clock. */
  clock?: () => number
}

const searchPath = '/v2/_zot/ext/search'
/** Number of repositories of a page. */
const pageSize = 500
/** Milliseconds after which a registry without the extension is requested for it again. */
const absentMs = 3_600_000

/** Returns whether a failure shows nothing about the extension: the next crawl requests it again. */
const isTransient = (error: RegistryError): boolean =>
  error.code !== 'auth_error' && (!isUpstreamResponse(error) || (error.upstreamStatus ?? 0) >= 500)

/** Returns the GraphQL query for one page of repositories, in an order that pushes do not change. */
const pageQuery = (offset: number): string =>
  `{RepoListWithNewestImage(requestedPage:{limit:${pageSize},offset:${offset},sortBy:ALPHABETIC_ASC})` +
  '{Page{TotalCount} Results{Name LastUpdated Size NewestImage{Tag Digest}}}}'

/** Returns the state of a repository; undefined when the row is malformed. */
function stateOf (row: unknown): [name: string, state: RepositoryState] | undefined {
  if (!Value.Check(ZotRepository, row)) return undefined
  const { Name: name, LastUpdated: updated, Size: size, NewestImage: newest } = row
  return [name, { revision: JSON.stringify([updated, size, newest?.Tag, newest?.Digest]) }]
}

/**
 * Creates the reads of Zot's search extension. They return the states of repositories, as far as the registry lists
 * them; undefined when it does not offer the extension, or its response cannot be used. The search always lists the
 * whole registry. The states are therefore also undefined when it has more pages than there are names. A crawl then
 * reads repositories in turns.
 */
export function createZotSearch (
  { instance, upstream, authentication, clock = () => performance.now() }: ZotSearchOptions
) {
  let isOffered = false
  /** Time until which the extension is taken as absent. */
  let absentUntil = -Infinity

  async function get (url: URL) {
    const { status, headers, body } = await authentication.send(
      undefined,
      async authorization =>
        await upstream.request(url, pageBytes, { accept: 'application/json', ...authorization })
    )
    if (status !== 200) throw statusError(instance, status, headers)
    return { headers, body }
  }

  /** Returns whether the registry offers the extension (distribution-spec, "Extensions"). */
  async function discover (): Promise<boolean> {
    const { headers, body } = await get(upstream.address(['v2', '_oci', 'ext', 'discover']))
    const { extensions } = checked(upstream, ExtensionDiscovery, headers, body)
    return extensions?.some(({ endpoints }) => endpoints?.includes(searchPath) === true) === true
  }

  /** Returns the states of the repositories; undefined when there are more pages than names. */
  async function readPages (names: ReadonlySet<string>): Promise<Map<string, RepositoryState> | undefined> {
    const states = new Map<string, RepositoryState>()
    for (let page = 0, pages = Math.min(1, names.size); page < pages; page++) {
      const { headers, body } = await get(
        upstream.address(['v2', '_zot', 'ext', 'search'], { query: pageQuery(page * pageSize) })
      )
      const { Page, Results } = checked(upstream, ZotRepositoryPage, headers, body).data.RepoListWithNewestImage
      pages = Math.ceil(Page.TotalCount / pageSize)
      if (pages > names.size) return undefined
      for (const row of Results ?? []) {
        const found = stateOf(row)
        if (found !== undefined && names.has(found[0])) states.set(...found)
      }
      if (Results === null || Results.length === 0) break
    }
    return states
  }

  return async function states (names: readonly string[]): Promise<ReadonlyMap<string, RepositoryState> | undefined> {
    if (clock() < absentUntil) return undefined
    try {
      isOffered ||= await discover()
      const found = isOffered ? await readPages(new Set(names)) : undefined
      if (found !== undefined) return found
    } catch (error) {
      if (!isRegistryError(error)) throw error
      if (isTransient(error)) return undefined
      isOffered = false
    }
    absentUntil = clock() + absentMs
    return undefined
  }
}
export type ZotSearch = ReturnType<typeof createZotSearch>
