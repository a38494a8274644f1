import { organizationJson, releaseJson, repositoryJson, userJson } from './json.ts'
import type { LoopbackResponse, LoopbackRequest } from '../loopback.ts'
import type { View } from './json.ts'
import type { Release, Repository, Store } from './store.ts'

/** Headers of every response of a Gitea. */
export const common = { 'x-content-type-options': 'nosniff', 'x-frame-options': 'SAMEORIGIN' }
export const uncached = { ...common, 'cache-control': 'max-age=0, private, must-revalidate, no-transform' }

/** Returns a text response, with a length in the cases where Go sends one. */
export function textResponse (
  status: number,
  text: string,
  headers: Record<string, string | string[]>
): LoopbackResponse {
  const framing = Buffer.byteLength(text) > 2048 ? { 'transfer-encoding': 'chunked' } : {}
  return { status, headers: { ...headers, ...framing }, body: text }
}

function json (status: number, value: unknown, headers: Record<string, string> = {}): LoopbackResponse {
  return textResponse(status, `${JSON.stringify(value)}\n`, {
    ...uncached,
    ...headers,
    'content-type': 'application/json;charset=utf-8'
  })
}

export function redirect (
  status: number,
  location: string,
  headers: Record<string, string | string[]>
): LoopbackResponse {
  const reason = status === 301 ? 'Moved Permanently' : 'See Other'
  const text = `<a href="${location.replaceAll('&', '&amp;')}">${reason}</a>.\n\n`
  return textResponse(status, text, { ...headers, 'content-type': 'text/html; charset=utf-8', location })
}

/** Returns the new path of a request for a former name of a repository; undefined when no repository had the name. */
export function movedPath (store: Store, name: string, path: string): string | undefined {
  const repository = store.repositories.find(({ renamed_from: before }) => before?.toLowerCase() === name.toLowerCase())
  return repository === undefined ? undefined : path.replace(`/${name}`, `/${repository.name}`)
}

/** Returns the releases newest first; of two with the same time the later one is first. */
export function newestFirst (releases: Release[]): Release[] {
  return releases.toSorted((a, b) => Date.parse(b.published_at) - Date.parse(a.published_at) || b.id - a.id)
}

interface Page<T> {
  items: T[]
  headers: Record<string, string>
}

/** Returns one page of the rows and its headers. The Link has the root URL and an ordered query. */
function paginate<T> (
  rows: T[],
  { options: { maxResponseItems, defaultPagingNum, rootUrl } }: View,
  { pathname, searchParams }: URL
): Page<T> {
  const requested = Number(searchParams.get('limit')) || 0
  const limit = Math.min(requested > 0 ? requested : defaultPagingNum, maxResponseItems)
  const page = Math.max(1, Number(searchParams.get('page')) || 1)
  const pages = Math.ceil(rows.length / limit)
  const current = Math.min(page, pages)
  const to = (target: number, rel: string): string => {
    const query = new URLSearchParams(searchParams)
    query.set('page', String(target))
    query.sort()
    return `<${new URL(pathname, rootUrl).href}?${query.toString()}>; rel="${rel}"`
  }
  const links = [
    ...(current < pages ? [to(current + 1, 'next'), to(pages, 'last')] : []),
    ...(current > 1 ? [to(1, 'first'), to(current - 1, 'prev')] : [])
  ]
  return {
    items: rows.slice((page - 1) * limit, page * limit),
    headers: {
      'access-control-expose-headers': links.length > 0 ? 'Link, X-Total-Count' : 'X-Total-Count',
      ...(links.length > 0 ? { link: links.join(',') } : {}),
      'x-total-count': String(rows.length)
    }
  }
}

/** Creates the responses below `/api/v1`. */
export function createApi (store: Store) {
  function failed (view: View, status: number, message: string, errors?: string[] | null): LoopbackResponse {
    return json(status, {
      ...(errors === undefined ? {} : { errors }),
      message,
      url: `${view.options.rootUrl}api/swagger`
    })
  }

  function notFound (view: View): LoopbackResponse {
    return failed(view, 404, view.options.forgejo ? "The target couldn't be found." : 'not found', null)
  }

  const unknownName = (name: string): string => `user redirect does not exist [name: ${name}]`

  function isOwner (name: string): boolean {
    return name.toLowerCase() === store.owner.login.toLowerCase()
  }

  /** Rows that a signed-in user may not see are counted, and removed from their page afterwards. */
  function repositories (view: View, url: URL): LoopbackResponse {
    const rows = store.repositories.filter((each) => view.access.signedIn || !each.private)
    const { items, headers } = paginate(rows, view, url)
    return json(200, items.filter(view.access.reads).map((each) => repositoryJson(view, each)), headers)
  }

  function organization (view: View, url: URL, [name = '', rest]: string[]): LoopbackResponse | undefined {
    const lack = view.access.lacks('read:organization')
    if (lack !== undefined) return failed(view, 403, lack)
    if (!isOwner(name) || store.owner.kind !== 'organization') {
      return failed(view, 404, 'GetOrgByName', [unknownName(name)])
    }
    if (rest === 'repos') return repositories(view, url)
    return rest === undefined ? json(200, organizationJson(view)) : undefined
  }

  function user (view: View, url: URL, [name = '', rest]: string[]): LoopbackResponse | undefined {
    const { lacks } = view.access
    const lack = lacks('read:user') ?? (rest === 'repos' ? lacks('read:repository') : undefined)
    if (lack !== undefined) return failed(view, 403, lack)
    if (!isOwner(name)) return failed(view, 404, unknownName(name))
    if (rest === 'repos') return repositories(view, url)
    return rest === undefined ? json(200, userJson(view)) : undefined
  }

  function releases (view: View, url: URL, repository: Repository): LoopbackResponse {
    if (repository.has_releases === false && !view.access.admin) {
      return failed(view, 403, 'user should have specific read permission or be a repo admin or a site admin')
    }
    const { access, options } = view
    const drafts = access.writes && (options.forgejo || access.lacks('write:repository') === undefined)
    const expected = (parameter: string, value: boolean): boolean =>
      (url.searchParams.get(parameter) ?? String(value)) === String(value)
    const rows = newestFirst(repository.releases).filter(({ draft, prerelease }) =>
      (drafts || !draft) && expected('draft', draft) && expected('pre-release', prerelease))
    const { items, headers } = paginate(rows, view, url)
    return json(200, items.map((each) => releaseJson(view, repository, each)), headers)
  }

  function repository (
    view: View,
    url: URL,
    [owner = '', name = '', rest, which]: string[]
  ): LoopbackResponse | undefined {
    const lack = view.access.lacks('read:repository')
    if (lack !== undefined) return failed(view, 403, lack)
    if (!isOwner(owner)) return failed(view, 404, 'GetUserByName', [unknownName(owner)])
    const found = store.find(name)
    const moved = found === undefined ? movedPath(store, name, `${url.pathname}${url.search}`) : undefined
    if (moved !== undefined) return redirect(301, moved, uncached)
    if (found === undefined || !view.access.reads(found)) return notFound(view)
    if (rest === 'releases' && which === 'latest') {
      const latest = newestFirst(found.releases).find(({ draft, prerelease }) => !draft && !prerelease)
      return latest === undefined ? notFound(view) : json(200, releaseJson(view, found, latest))
    }
    if (rest === 'releases') return releases(view, url, found)
    return rest === undefined ? json(200, repositoryJson(view, found)) : undefined
  }

  function settings ({ options }: View): LoopbackResponse {
    return json(200, {
      max_response_items: options.maxResponseItems,
      default_paging_num: options.defaultPagingNum,
      default_git_trees_per_page: 1000,
      default_max_blob_size: 10485760,
      ...(options.forgejo ? {} : { default_max_response_size: 104857600 })
    })
  }

  /** @param view undefined when the credentials of the request are unknown */
  return function response (
    request: LoopbackRequest,
    url: URL,
    names: string[],
    options: View['options'],
    view: View | undefined
  ): LoopbackResponse {
    const unknown = textResponse(404, '404 page not found\n', {
      ...common,
      'content-type': 'text/plain; charset=utf-8'
    })
    const [noun = '', ...rest] = names
    const known = ['orgs', 'users', 'repos'].includes(noun) || names.join('/') === 'version' ||
      names.join('/') === 'settings/api'
    if (!known) return unknown
    if (request.method !== 'GET') return { status: 405, headers: { ...common, allow: 'GET' } }
    if (view === undefined) {
      return json(401, { message: 'invalid username, password or token', url: `${options.rootUrl}api/swagger` })
    }
    if (options.requireSignin && !view.access.signedIn) {
      return json(403, { message: 'Only signed in user is allowed to call APIs.' })
    }
    if (noun === 'version') return json(200, { version: options.version })
    if (noun === 'settings') return settings(view)
    const responses = { orgs: organization, users: user, repos: repository }
    return responses[noun as keyof typeof responses](view, url, rest) ?? unknown
  }
}
