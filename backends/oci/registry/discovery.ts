import { Value } from '@sinclair/typebox/value'
import { isRegistryError, type RegistryError } from '../../../lib/errors.ts'
import { statusError } from '../../../plugins/upstream/errors.ts'
import type { Upstream } from '../../../plugins/upstream/plugin.ts'
import { HarborRepositories, HarborRepository, isRepositoryName, RepositoryList } from '../../../schemas/oci.ts'
import type { Authentication } from './authentication.ts'
import { checked, nextPage, pageBytes, readPages, type NamesPage, type NamesResult } from './paging.ts'
import type { RepositoryNames, RepositoryState } from '../transport.ts'
import type { ZotSearch } from './zot-search.ts'

export interface DiscoveryOptions {
  instance: string
  upstream: Upstream
  authentication: Authentication
  kind: 'catalog' | 'harbor' | 'list'
  /** Full names of repositories that exist even where the registry does not list them. */
  named: readonly string[]
  /** Reads the states of the repositories of Zot; they are not read if unset. */
  search?: ZotSearch | undefined
  /** Throws unless the registry itself responds. */
  ping: () => Promise<void>
  /** Called once when the registry does not list its repositories. */
  onRefused?: () => void
}

/** Number of names of a page: the maximum of distribution. */
const pageSize = 1000
/** Number of names of a page of Harbor: its maximum. */
const harborPageSize = 100
const maxPages = 1000
/** Statuses of a registry whose list is not public, or does not exist. */
const refusals = new Set([401, 403, 404, 405])

/**
 * Returns the state of a repository of Harbor; undefined when the row has none. A new artifact and a deleted one change
 * the number of artifacts. A tag that is added to an artifact or removed from it changes nothing.
 */
function harborState (row: unknown): [name: string, state: RepositoryState] | undefined {
  if (!Value.Check(HarborRepository, row)) return undefined
  const { name, id, artifact_count: artifacts, pull_count: pulls = 0, update_time: updated } = row
  return [name, { revision: `${id ?? ''} ${artifacts}`, pulls, ...(updated !== undefined && { updated }) }]
}

/** Creates the discovery of the repositories of a registry, for which the specification has no request. */
export function createDiscovery (options: DiscoveryOptions) {
  const { instance, upstream, authentication, kind, named } = options
  let observed = false
  /** Whether the registry has ever listed its repositories. */
  let listed = false

  /** Reads one page of the catalog, without `n` from a registry that refuses the parameter. */
  async function catalogPage (url: URL): Promise<NamesPage | 'refused'> {
    const send = async (target: URL) =>
      await authentication.send(
        'registry:catalog:*',
        async authorization =>
          await upstream.request(target, pageBytes, { accept: 'application/json', ...authorization })
      )
    let response = await send(url)
    if (response.status === 400 && url.searchParams.has('n')) {
      const smaller = new URL(url)
      smaller.searchParams.delete('n')
      response = await send(smaller)
    }
    const { status, headers, body } = response
    if (refusals.has(status)) return 'refused'
    if (status !== 200) throw statusError(instance, status, headers)
    return {
      names: checked(upstream, RepositoryList, headers, body).repositories ?? [],
      ...nextPage(upstream, headers.link, response.url)
    }
  }

  /** Reads one page of the repositories of a project, and adds their states to `states`. */
  async function harborPage (url: URL, states: Map<string, RepositoryState>): Promise<NamesPage | 'refused'> {
    const { status, headers, body } = await upstream.request(url, pageBytes, {
      accept: 'application/json',
      ...await authentication.direct()
    })
    if (refusals.has(status)) return 'refused'
    if (status !== 200) throw statusError(instance, status, headers)
    const items = checked(upstream, HarborRepositories, headers, body)
    for (const item of items) {
      const found = harborState(item)
      if (found !== undefined) states.set(...found)
    }
    const names = items.map(item => typeof item === 'object' && item !== null && 'name' in item ? item.name : undefined)
    const page = Number(url.searchParams.get('page'))
    const more = page * harborPageSize < Number(headers['x-total-count'] ?? 0)
    const link = nextPage(upstream, headers.link, url)
    if (link.next !== undefined || !more) return { names, more, ...link }
    const next = new URL(url)
    next.searchParams.set('page', String(page + 1))
    return { names, more, next }
  }

  /** Reads all pages; undefined when the registry refuses its list. */
  async function crawl (
    first: URL,
    namespace: string,
    read: (page: URL) => Promise<NamesPage | 'refused'>
  ): Promise<NamesResult | undefined> {
    const below = namespace === '' ? '' : `${namespace}/`
    try {
      return await readPages(first, async url => {
        const page = await read(url)
        return page === 'refused' ? undefined : page
      }, maxPages, name => isRepositoryName(name) && name.startsWith(below))
    } catch (error) {
      // The token server may refuse, instead of the registry.
      if (isRegistryError(error) && error.code === 'auth_error') return undefined
      throw error
    }
  }

  /** Returns the names of the registry's list; undefined when it is refused. Adds states of them to `states`. */
  async function fetchFrom (
    namespace: string,
    states: Map<string, RepositoryState>,
    search: ZotSearch | undefined
  ): Promise<NamesResult | undefined> {
    if (kind === 'catalog') {
      const found = await crawl(upstream.address(['v2', '_catalog'], { n: pageSize }), namespace, catalogPage)
      for (const [name, state] of found === undefined ? [] : await search?.(found.names) ?? []) states.set(name, state)
      return found
    }
    const [project = ''] = namespace.split('/')
    return await crawl(
      upstream.address(['api', 'v2.0', 'projects', project, 'repositories'], { page: 1, page_size: harborPageSize }),
      namespace,
      async url => await harborPage(url, states)
    )
  }

  /** Returns why a list is not complete; undefined when it is complete. */
  function problemOf (found: NamesResult | undefined): RegistryError | undefined {
    const problem = found === undefined
      ? listed ? 'Registry no longer lists its repositories' : 'Registry does not list its repositories'
      : found.truncated !== false
        ? `Response has ${found.truncated}`
        : found.lost
          ? 'Response lost a page'
          : found.damaged && 'Response has an unexpected structure'
    return problem === false ? undefined : upstream.unexpected(problem, 'http_protocol_error')
  }

  return {
    /**
     * Returns the repositories below a namespace. A registry that responds, but does not list its repositories, has the
     * named ones.
     */
    repositories: async (namespace: string, { withStates } = { withStates: false }): Promise<RepositoryNames> => {
      if (kind === 'list') return { names: named }
      const states = new Map<string, RepositoryState>()
      const found = await fetchFrom(namespace, states, withStates ? options.search : undefined)
      if (found === undefined || found.lost) {
        await options.ping()
        if (!observed) options.onRefused?.()
        observed = true
      }
      if (found?.damaged === true && found.names.length === 0) {
        throw upstream.unexpected('Response has an unexpected structure', 'http_protocol_error')
      }
      const why = problemOf(found)
      const usual = found === undefined && !listed
      if (found !== undefined) listed = true
      const names = new Set([...named, ...found?.names ?? []])
      return {
        names: [...names].sort(),
        ...(states.size > 0 && { states }),
        truncated: why !== undefined,
        ...(why !== undefined && { truncatedBy: why }),
        ...(usual && { expected: usual })
      }
    }
  }
}
export type Discovery = ReturnType<typeof createDiscovery>
