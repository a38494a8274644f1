import { createAccess, type AccessOptions } from './registry/access.ts'
import { contentOf, type RegistryContent } from './registry/content.ts'
import { flavours, type FlavourName } from './registry/flavours.ts'
import { createStates } from './registry/states.ts'
import { indexType, manifestType } from './layout.ts'
import { createLoopback, type Loopback, type LoopbackResponse, type LoopbackRequest } from './loopback.ts'

export { contentOf }
export type { FlavourName, RegistryContent }

export interface RegistryFakeOptions extends Partial<AccessOptions> {
  flavour?: FlavourName
  /** Whether only administrators may read `_catalog`. */
  catalogRefused?: boolean
  /** `Content-Type` of every manifest and index; the default is its own media type, else that of its tag. */
  manifestType?: string
  /** Whether Zot offers its search extension. */
  search?: boolean
  /** Names of the repositories that Zot's search does not show. */
  unlisted?: RegExp
  /** Fields of Harbor's rows by the full name of the repository. */
  rows?: Record<string, Record<string, unknown>>
  /** Address to which blobs are redirected: `{storage}/{digest}`. */
  storage?: string
}

export interface RegistryFake extends Loopback {
  readonly content: RegistryContent
  /** May change while the fake runs. */
  readonly options: RegistryFakeOptions & AccessOptions
  /** Revokes all issued tokens. */
  revoke: () => void
}

/** Default authentication of each server. */
const usual: Record<FlavourName, Partial<AccessOptions>> = {
  'docker-registry': {},
  zot: {},
  gitea: { auth: 'bearer', service: 'container_registry', scope: '*' },
  harbor: { auth: 'bearer', service: 'harbor-registry', tokenResponse: { expires_in: 1800 } }
}

/**
 * Starts a registry with this content, which may change while it runs. Its responses to reading clients equal the
 * recorded ones of its flavour.
 */
export async function createRegistryFake (
  content: RegistryContent,
  options: RegistryFakeOptions = {}
): Promise<RegistryFake> {
  const name = options.flavour ?? 'docker-registry'
  const flavour = flavours[name]
  const settings: RegistryFakeOptions & AccessOptions = {
    auth: 'anonymous',
    users: {},
    guests: true,
    service: 'registry',
    tokenResponse: {},
    tokenField: 'token',
    tokens: [],
    denied: undefined,
    ...usual[name],
    ...options
  }
  const access = createAccess(settings)
  const states = createStates(content)

  const json = (status: number, body: string, headers = {}): LoopbackResponse => ({
    status,
    headers: { ...flavour.common, 'content-type': flavour.json, ...headers },
    body
  })
  const error = (status: number, code: string, message: string, detail: unknown, headers = {}) =>
    json(status, flavour.error(code, message, detail), headers)
  const unknownPath: LoopbackResponse = {
    status: 404,
    headers: { ...flavour.common, 'content-type': 'text/plain; charset=utf-8' },
    body: '404 page not found\n'
  }
  const refuse = (challenge: string) =>
    error(401, 'UNAUTHORIZED', 'authentication required', null, { 'www-authenticate': challenge })

  function names (key: string, page: { names: string[] | null, link?: string }, more = {}): LoopbackResponse {
    const end = name === 'zot' ? '' : '\n'
    return json(
      200,
      `${JSON.stringify({ ...more, [key]: page.names })}${end}`,
      page.link === undefined ? {} : { link: `<${page.link}>; rel="next"` }
    )
  }

  function catalog (request: LoopbackRequest, url: URL): LoopbackResponse {
    // Harbor issues no token for the catalog.
    if (name === 'harbor' && access.user(request) !== 'known') return refuse('Basic realm="harbor"')
    if (settings.catalogRefused === true) {
      return name === 'harbor'
        ? refuse('Basic realm="harbor"')
        : error(403, 'DENIED', 'requested access to the resource is denied', null)
    }
    const page = flavour.catalog([...content.keys()], url.searchParams.get('n'), url.searchParams.get('last'))
    return typeof page === 'number'
      ? error(400, 'PAGINATION_NUMBER_INVALID', 'invalid number of results requested', { n: page })
      : names('repositories', page)
  }

  function tags (repository: string, url: URL): LoopbackResponse {
    const found = content.get(repository)
    if (found === undefined) {
      return error(404, 'NAME_UNKNOWN', 'repository name not known to registry', { name: repository })
    }
    const page = flavour.tags(
      [...found.tags.keys()],
      url.pathname,
      url.searchParams.get('n'),
      url.searchParams.get('last')
    )
    return page === undefined
      ? { status: 404, headers: flavour.common, body: '' }
      : names('tags', page, { name: repository })
  }

  function manifest (request: LoopbackRequest, repository: string, reference: string): LoopbackResponse {
    const found = content.get(repository)
    const target = found?.tags.get(reference)
    const digest = target?.digest ?? reference
    const body = found?.blobs.get(digest)
    const detail = target === undefined ? { Tag: reference } : undefined
    if (body === undefined) return error(404, 'MANIFEST_UNKNOWN', 'manifest unknown', detail)
    const own = JSON.parse(body.toString()) as { mediaType?: string, manifests?: unknown }
    const mediaType = own.mediaType ?? target?.mediaType ?? (own.manifests === undefined ? manifestType : indexType)
    if (flavour.needsAccept && !(request.headers.accept ?? '').split(/,\s*/).includes(mediaType)) {
      return error(
        404,
        'MANIFEST_UNKNOWN',
        'OCI manifest found, but accept header does not support OCI manifests',
        undefined
      )
    }
    if (flavour.conditional && request.headers['if-none-match'] === `"${digest}"`) {
      return { status: 304, headers: flavour.common }
    }
    return {
      status: 200,
      headers: {
        ...flavour.common,
        'content-length': body.length,
        'content-type': settings.manifestType ?? mediaType,
        'docker-content-digest': digest,
        ...(flavour.etags && { etag: `"${digest}"` })
      },
      body
    }
  }

  function blob (repository: string, digest: string): LoopbackResponse {
    const body = content.get(repository)?.blobs.get(digest)
    if (body === undefined) return error(404, 'BLOB_UNKNOWN', 'blob unknown to registry', digest)
    if (settings.storage !== undefined) {
      return {
        status: 307,
        headers: { ...flavour.common, location: `${settings.storage}/${digest}?X-Amz-Signature=canary-signature` }
      }
    }
    return {
      status: 200,
      headers: {
        ...flavour.common,
        ...flavour.blobHeaders,
        'content-length': body.length,
        'docker-content-digest': digest,
        ...(flavour.etags && { etag: `"${digest}"` })
      },
      body
    }
  }

  /** Returns the response of the Harbor API with one page of the repositories of a project. */
  function project (request: LoopbackRequest, url: URL, project: string): LoopbackResponse {
    const header = { 'content-type': 'application/json; charset=utf-8' }
    const failed = (status: number, code: string) => ({
      status,
      headers: header,
      body: `${JSON.stringify({ errors: [{ code, message: code.toLowerCase() }] })}\n`
    })
    if (access.user(request) === 'unknown' || (access.user(request) === 'nobody' && !settings.guests)) {
      return failed(401, 'UNAUTHORIZED')
    }
    const all = [...content.keys()].filter(repository => repository.startsWith(`${project}/`)).sort()
    if (all.length === 0) return failed(404, 'NOT_FOUND')
    const page = Number(url.searchParams.get('page') ?? 1)
    const size = Number(url.searchParams.get('page_size') ?? 10)
    if (size > 100) return failed(422, 'UNPROCESSABLE_ENTITY')
    const link = (to: number, rel: string) => `<${url.pathname}?page=${to}&page_size=${size}>; rel="${rel}"`
    const links = [
      ...page > 1 ? [link(page - 1, 'prev')] : [],
      ...page * size < all.length ? [link(page + 1, 'next')] : []
    ]
    const body = all.slice((page - 1) * size, page * size).map(repository => ({
      ...states.harbor(repository, [...content.keys()].indexOf(repository) + 1),
      ...settings.rows?.[repository]
    }))
    return {
      status: 200,
      headers: { ...header, 'x-total-count': String(all.length), ...(links.length > 0 && { link: links.join(' , ') }) },
      body: JSON.stringify(body)
    }
  }

  /** Returns the extensions of Zot: the list of them, or a page of the repositories with their newest image. */
  function extension (path: string, url: URL): LoopbackResponse | undefined {
    const isOffered = name === 'zot' && settings.search === true
    if (path === '/v2/_oci/ext/discover' && name === 'zot') {
      const search = {
        name: '_zot',
        url: 'https://github.com/project-zot/zot/blob//pkg/extensions/_zot.md',
        description: 'zot registry extensions',
        endpoints: ['/v2/_zot/ext/search']
      }
      return json(200, JSON.stringify({ extensions: isOffered ? [search] : [] }))
    }
    if (path !== '/v2/_zot/ext/search' || !isOffered) return undefined
    const query = url.searchParams.get('query') ?? ''
    const [, limit = '', offset = ''] = /limit:(\d+),offset:(\d+)/.exec(query) ?? []
    const all = [...content.keys()].filter(repository => settings.unlisted?.test(repository) !== true).sort()
    const page = all.slice(Number(offset), Number(offset) + Number(limit))
    const Page = { TotalCount: all.length }
    return json(
      200,
      JSON.stringify({ data: { RepoListWithNewestImage: { Page, Results: page.map(states.zot) } } })
    )
  }

  function handle (request: LoopbackRequest): LoopbackResponse {
    const url = new URL(request.path, 'http://fake')
    const path = decodeURIComponent(url.pathname)
    if (path === '/token' || path === '/v2/token') return access.token(request, url)
    const inProject = /^\/api\/v2\.0\/projects\/([^/]+)\/repositories$/.exec(path)?.[1]
    if (inProject !== undefined && name === 'harbor') return project(request, url, inProject)
    if (path === '/v2/_catalog' && name === 'harbor') return catalog(request, url)
    const [, repository = '', kind = '', reference = ''] = /^\/v2\/(.+)\/(tags|manifests|blobs)\/([^/]+)$/.exec(path) ??
      []
    if (!path.startsWith('/v2/')) return unknownPath
    const scope = path === '/v2/'
      ? undefined
      : path === '/v2/_catalog'
        ? 'registry:catalog:*'
        : repository === ''
          ? undefined
          : `repository:${repository}:pull`
    const challenge = access.challenge(request, scope)
    if (challenge !== undefined) return refuse(challenge)
    if (path === '/v2/') {
      const version = { 'docker-distribution-api-version': 'registry/2.0' }
      return name === 'gitea'
        ? { status: 200, headers: { ...flavour.common, ...version }, body: '' }
        : json(200, name === 'zot' ? '' : '{}', version)
    }
    if (path === '/v2/_catalog') return catalog(request, url)
    const found = extension(path, url)
    if (found !== undefined) return found
    if (kind === 'tags' && reference === 'list') return tags(repository, url)
    if (kind === 'manifests') return manifest(request, repository, reference)
    return kind === 'blobs' ? blob(repository, reference) : unknownPath
  }

  return Object.assign(await createLoopback(handle), { content, options: settings, revoke: access.revoke })
}
