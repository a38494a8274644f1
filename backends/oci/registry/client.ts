import { createHash } from 'node:crypto'
import { statusError } from '../../../plugins/upstream/errors.ts'
import { openFrom } from '../../../plugins/upstream/resume.ts'
import type { Upstream, UpstreamResponse, UpstreamRequest as RequestOptions } from '../../../plugins/upstream/client.ts'
import { isRepositoryName, TagList } from '../../../schemas/oci.ts'
import { createAuthentication, type AuthenticationOptions, type Authentication } from './authentication.ts'
import { isDigest, verifyBytes } from '../content.ts'
import { createDiscovery, type DiscoveryOptions } from './discovery.ts'
import { checked, nextPage, pageBytes, readPages, type NamesPage } from './paging.ts'
import { createZotSearch } from './zot-search.ts'
import { ContentError, maxManifestBytes, type Transport, type Manifest, type Target } from '../transport.ts'
import { isRegistryError } from '../../../lib/errors.ts'
import { indexTypes, manifestTypes } from '../media-types.ts'
import { parseJson } from '../../../lib/json.ts'

export interface RequestsOptions {
  instance: string
  upstream: Upstream
  authentication: Authentication
}

/** Returns the scope of a token that permits to read a repository. */
const pullScope = (repository: string): string => `repository:${repository}:pull`

/** Creates the requests to a registry's API, with their authorization, and the checks of their responses. */
function createRequests ({ instance, upstream, authentication }: RequestsOptions) {
  /** Returns the address of content of a repository. */
  const address = (repository: string, ...rest: string[]): URL =>
    upstream.address(['v2', ...repository.split('/'), ...rest])

  /** Sends a request for content of a repository. */
  async function send (
    repository: string,
    url: URL,
    maxBytes: number,
    options: RequestOptions
  ): Promise<UpstreamResponse & { body: Buffer }> {
    return await authentication.send(
      pullScope(repository),
      async authorization => await upstream.request(url, maxBytes, { ...options, ...authorization })
    )
  }

  /** Returns whether a body has the form of a registry's errors. */
  function isRegistryErrorBody (body: Buffer | undefined): boolean {
    try {
      const error: unknown = parseJson(body ?? Buffer.alloc(0))
      return typeof error === 'object' && error !== null &&
        (('errors' in error && Array.isArray(error.errors)) || ('code' in error && typeof error.code === 'string'))
    } catch {
      return false
    }
  }

  /**
   * Returns whether a response proves that something does not exist: a 404 of the registry itself. Throws when the 404
   * is that of a proxy or a storage.
   */
  async function isProvenAbsent (
    { status, headers, url, body }: UpstreamResponse & { body?: Buffer }
  ): Promise<boolean> {
    if (status !== 404) return false
    if (url.origin !== upstream.origin || /^text\/(?:html|plain)\b/i.test(headers['content-type'] ?? '')) {
      throw upstream.unexpected('Response is not from a registry', 'http_protocol_error')
    }
    // Zot's empty 404 looks like that of a proxy without its registry, which has no /v2/ either.
    if (!isRegistryErrorBody(body)) await ping()
    return true
  }

  /** Throws for every status but 200, and for the HTML page of a proxy. */
  function mustSucceed ({ status, headers }: UpstreamResponse): void {
    if (status !== 200) throw statusError(instance, status, headers)
    if (/^text\/html\b/i.test(headers['content-type'] ?? '')) {
      throw upstream.unexpected('Response is not from a registry', 'http_protocol_error')
    }
  }

  /** Resolves when there is a registry that accepts the credentials. */
  async function ping (signal?: AbortSignal): Promise<void> {
    const url = upstream.address(['v2', ''])
    const response = await authentication.send(
      undefined,
      async authorization =>
        await upstream.request(url, pageBytes, { ...authorization, ...(signal !== undefined && { signal }) })
    )
    if (response.status === 404) throw upstream.unexpected('No registry at this address', 'destination_not_found')
    mustSucceed(response)
  }

  return { address, send, isProvenAbsent, mustSucceed, ping }
}
type Requests = ReturnType<typeof createRequests>

/** `Accept` of a manifest: without the exact types some servers respond with 404. */
const accepted = [...manifestTypes, ...indexTypes].join(', ')

/** Creates the reader of manifests and of the tags that point to them. */
function createManifests (requests: Requests) {
  const mediaTypeOf = ({ headers }: UpstreamResponse) =>
    headers['content-type'] === undefined ? {} : { mediaType: headers['content-type'] }

  /** Reads a manifest by tag or digest, without verifying it; undefined when it does not exist. */
  async function fetchManifest (
    repository: string,
    reference: string
  ): Promise<UpstreamResponse & { body: Buffer } | undefined> {
    try {
      const response = await requests.send(
        repository,
        requests.address(repository, 'manifests', reference),
        maxManifestBytes,
        { accept: accepted }
      )
      if (await requests.isProvenAbsent(response)) return undefined
      requests.mustSucceed(response)
      return response
    } catch (error) {
      if (!isRegistryError(error) || error.proxyError !== 'http_response_body_size') throw error
      throw new ContentError('The manifest is longer than allowed', { cause: error })
    }
  }

  /** Resolves a tag by its manifest; the digest is computed where the server does not send it. */
  async function resolveByContent (repository: string, tag: string) {
    const response = await fetchManifest(repository, tag)
    if (response === undefined) return undefined
    const stated = String(response.headers['docker-content-digest'] ?? '')
    const digest = isDigest(stated) ? stated : `sha256:${createHash('sha256').update(response.body).digest('hex')}`
    verifyBytes(response.body, digest)
    const manifest: Manifest = { digest, bytes: response.body, ...mediaTypeOf(response) }
    return { digest, manifest, ...mediaTypeOf(response) }
  }

  return {
    /** Returns the verified manifest of a digest; undefined when it does not exist. */
    async byDigest (repository: string, digest: string): Promise<Manifest | undefined> {
      const response = await fetchManifest(repository, digest)
      if (response === undefined) return undefined
      verifyBytes(response.body, digest)
      return { digest, bytes: response.body, ...mediaTypeOf(response) }
    },

    /** Returns the target of a tag, with its manifest where requested or needed; undefined when it does not exist. */
    async resolve (repository: string, tag: string, withManifest: boolean): Promise<Target | undefined> {
      if (withManifest) return await resolveByContent(repository, tag)
      const response = await requests.send(
        repository,
        requests.address(repository, 'manifests', tag),
        maxManifestBytes,
        { method: 'HEAD', accept: accepted }
      )
      if (await requests.isProvenAbsent(response)) return undefined
      if (response.status !== 405 && response.status !== 501) requests.mustSucceed(response)
      const digest = String(response.headers['docker-content-digest'] ?? '')
      return isDigest(digest) ? { digest, ...mediaTypeOf(response) } : await resolveByContent(repository, tag)
    }
  }
}

export interface OciRegistryOptions extends Omit<AuthenticationOptions, 'upstream'> {
  discovery: DiscoveryOptions['kind']
  /** Full names of repositories that exist even where the registry does not list them. */
  repositories: readonly string[]
  /** Base of the addresses that people open, without a trailing slash. */
  publicUrl: string
  /** Whether the states of repositories are read where the registry offers them; false if unset. */
  readsStates?: boolean
  /** Called once when the registry does not list its repositories. */
  onRefused?: () => void
}

const tagName = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/
/** Number of tags of a page; the maximum of distribution 3. */
const pageSize = 1000
const maxPages = 400

/**
 * Creates the transport of an OCI registry over HTTP (distribution-spec 1.1). A refused repository is a failure, since
 * it may exist.
 */
export function createOciRegistry (upstream: Upstream, options: OciRegistryOptions): Transport {
  const { instance } = options
  const authentication = createAuthentication({ ...options, upstream })
  const requests = createRequests({ instance, upstream, authentication })
  const manifests = createManifests(requests)
  const discovery = createDiscovery({
    instance,
    upstream,
    authentication,
    kind: options.discovery,
    named: options.repositories,
    ...(options.readsStates === true && { search: createZotSearch({ ...options, upstream, authentication }) }),
    ping: async () => { await requests.ping() },
    ...(options.onRefused !== undefined && { onRefused: options.onRefused })
  })

  async function tagPage (repository: string, url: URL): Promise<NamesPage | undefined> {
    let response = await requests.send(repository, url, pageBytes, { accept: 'application/json' })
    if (response.status === 400 && url.searchParams.has('n')) {
      const smaller = new URL(url)
      smaller.searchParams.delete('n')
      response = await requests.send(repository, smaller, pageBytes, { accept: 'application/json' })
    }
    if (await requests.isProvenAbsent(response)) return undefined
    requests.mustSucceed(response)
    const { name, tags } = checked(upstream, TagList, response.headers, response.body)
    if (name === undefined && tags === undefined) {
      throw upstream.unexpected('Response has an unexpected structure', 'http_protocol_error')
    }
    return {
      names: tags ?? [],
      ...nextPage(upstream, response.headers.link, response.url)
    }
  }

  return {
    local: false,
    named: new Set(options.repositories),
    closed: options.discovery === 'list',

    repositories: discovery.repositories,

    async tags (repository) {
      // No request for an invalid name: some servers have no route for it.
      if (!isRepositoryName(repository)) return undefined
      const first = requests.address(repository, 'tags', 'list')
      first.searchParams.set('n', String(pageSize))
      const readTags = async () =>
        await readPages(first, async url => await tagPage(repository, url), maxPages, tag => tagName.test(tag))
      let found = await readTags()
      // Zot has no page after a deleted tag: the list is read once more, and a missing page is then its end.
      if (found?.lost === true) found = await readTags()
      if (found !== undefined && found.truncated !== false) {
        throw upstream.unexpected(`Response has ${found.truncated}`, 'http_protocol_error')
      }
      // An invalid name may hide the only version: without another version, absence is not proven.
      if (found?.damaged === true && !found.names.some(name => /^v?\d+\.\d+\.\d+/.test(name))) {
        throw upstream.unexpected('Response has an unexpected structure', 'http_protocol_error')
      }
      return found?.names.map(name => ({ name }))
    },

    async resolve (repository, tag, { withManifest } = { withManifest: false }) {
      return isRepositoryName(repository) && tagName.test(tag)
        ? await manifests.resolve(repository, tag, withManifest)
        : undefined
    },

    async manifest (repository, digest) {
      return isRepositoryName(repository) && isDigest(digest) ? await manifests.byDigest(repository, digest) : undefined
    },

    async blob (repository, { digest, size }, { signal, offset: firstByte = 0, etag }) {
      if (!isRepositoryName(repository) || !isDigest(digest)) return undefined
      // Resumed at the registry's own address, since the address of a redirect may have expired.
      const response = await openFrom(
        { offset: firstByte, size, constant: true, ...(etag !== undefined && { etag }) },
        async offset =>
          await authentication.send(pullScope(repository), async authorization =>
            await upstream.stream(requests.address(repository, 'blobs', digest), { signal, offset, ...authorization }))
      )
      if (await requests.isProvenAbsent(response)) return undefined
      const { status, headers, stream, offset } = response
      // A storage on another origin received no credentials, so its status is not a refusal of them.
      if ((status === 401 || status === 403) && response.url.origin !== upstream.origin) {
        throw upstream.unexpected('Storage of the registry refuses the file', 'destination_unavailable')
      }
      if (stream === undefined) throw statusError(instance, status, headers)
      const length = headers['content-length']
      if (
        (headers['content-encoding'] ?? 'identity') === 'identity' &&
        (length === undefined || Number(length) === size - offset)
      ) {
        return { stream, offset, ...(headers.etag !== undefined && { etag: headers.etag }) }
      }
      stream.destroy()
      throw new ContentError('The response has another size than its descriptor')
    },

    url: (repository, { digest }) => `${options.publicUrl}/v2/${repository}/blobs/${digest}`,

    ping: requests.ping
  }
}
