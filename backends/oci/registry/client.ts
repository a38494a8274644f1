import { createHash } from 'node:crypto'
import { isRegistryError } from '../../../lib/errors.ts'
import { parseJson } from '../../../lib/json.ts'
import { statusError } from '../../../plugins/upstream/errors.ts'
import { openFrom } from '../../../plugins/upstream/resume.ts'
import type { Question, Upstream, UpstreamAnswer } from '../../../plugins/upstream/client.ts'
import { isRepositoryName, TagList } from '../../../schemas/oci.ts'
import { createAuthentication, type AuthenticationOptions } from './authentication.ts'
import { isDigest, verifyBytes } from '../content.ts'
import { createDiscovery, pageBytes, type DiscoveryOptions } from './discovery.ts'
import { indexTypes, manifestTypes } from '../media-types.ts'
import { checked, nextPage, readPages, type NamesPage } from './paging.ts'
import { ContentError, maxManifestBytes, type Manifest, type Transport } from '../transport.ts'

export interface OciRegistryOptions extends Omit<AuthenticationOptions, 'upstream'> {
  discovery: DiscoveryOptions['kind']
  /** Repositories that are there whatever the registry tells, by their full names. */
  repositories: readonly string[]
  /** Base of the addresses that people open, without a trailing slash. */
  publicUrl: string
  /** Told once that the registry does not tell its repositories. */
  onRefused?: () => void
}

/** `Accept` of a manifest: without the exact types some servers answer that there is no manifest. */
const accepted = [...manifestTypes, ...indexTypes].join(', ')

const tagName = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/
/** Tags asked for at once; distribution 3 takes no more. */
const pageSize = 1000
const maxPages = 400

/**
 * Reads an OCI registry over HTTP (distribution-spec 1.1), as registries really are: what they differ in is told in
 * comments beside what copes with it. A repository that is refused is a failure, for it may well be there.
 */
export function createOciRegistry (upstream: Upstream, options: OciRegistryOptions): Transport {
  const { instance } = options
  const authentication = createAuthentication({ ...options, upstream })
  const discovery = createDiscovery({
    instance,
    upstream,
    authentication,
    kind: options.discovery,
    named: options.repositories,
    ping: async () => { await ping() },
    ...(options.onRefused !== undefined && { onRefused: options.onRefused })
  })

  const address = (repository: string, ...rest: string[]): URL =>
    upstream.address(['v2', ...repository.split('/'), ...rest])
  const pull = (repository: string): string => `repository:${repository}:pull`

  async function ask (
    repository: string,
    url: URL,
    maxBytes: number,
    question: Question
  ): Promise<UpstreamAnswer & { body: Buffer }> {
    return await authentication.asking(
      pull(repository),
      async given => await upstream.request(url, maxBytes, { ...question, ...given })
    )
  }

  /** Whether an answer says in a registry's own words that something is not there. */
  function isErrorOfRegistry (body: Buffer | undefined): boolean {
    try {
      const said: unknown = parseJson(body ?? Buffer.alloc(0))
      return typeof said === 'object' && said !== null &&
        (('errors' in said && Array.isArray(said.errors)) || ('code' in said && typeof said.code === 'string'))
    } catch {
      return false
    }
  }

  /** Whether an answer says that something is not there: a registry says so itself, not a proxy or a storage. */
  async function isProvenAbsent ({ status, headers, url, body }: UpstreamAnswer & { body?: Buffer }): Promise<boolean> {
    if (status !== 404) return false
    if (
      url.origin !== upstream.origin || /^text\/(?:html|plain)\b/i.test(headers['content-type'] ?? '')
    ) { throw upstream.unexpected('Answer is not of a registry', 'http_protocol_error') }
    // Zot's empty answer looks like that of a proxy which has lost its registry: then there is none at /v2/ either.
    if (!isErrorOfRegistry(body)) await ping()
    return true
  }

  /** Throws for every status but 200, and for a page that some proxy put in the place of the answer. */
  function mustAnswer ({ status, headers }: UpstreamAnswer): void {
    if (status !== 200) throw statusError(instance, status, headers)
    if (/^text\/html\b/i.test(headers['content-type'] ?? '')) {
      throw upstream.unexpected('Answer is not of a registry', 'http_protocol_error')
    }
  }

  async function ping (signal?: AbortSignal): Promise<void> {
    const url = upstream.address(['v2', ''])
    const answer = await authentication.asking(
      undefined,
      async given => await upstream.request(url, pageBytes, { ...given, ...(signal !== undefined && { signal }) })
    )
    if (answer.status === 404) throw upstream.unexpected('No registry at this address', 'destination_not_found')
    mustAnswer(answer)
  }

  async function tagPage (repository: string, url: URL): Promise<NamesPage | undefined> {
    let answer = await ask(repository, url, pageBytes, { accept: 'application/json' })
    if (answer.status === 400 && url.searchParams.has('n')) {
      const smaller = new URL(url)
      smaller.searchParams.delete('n')
      answer = await ask(repository, smaller, pageBytes, { accept: 'application/json' })
    }
    if (await isProvenAbsent(answer)) return undefined
    mustAnswer(answer)
    const { name, tags } = checked(upstream, TagList, answer.headers, answer.body)
    if (name === undefined && tags === undefined) {
      throw upstream.unexpected('Answer has an unexpected form', 'http_protocol_error')
    }
    return {
      names: tags ?? [],
      ...nextPage(upstream, answer.headers.link, answer.url)
    }
  }

  const mediaTypeOf = ({ headers }: UpstreamAnswer) =>
    headers['content-type'] === undefined ? {} : { mediaType: headers['content-type'] }

  /** A manifest by tag or digest, not verified yet. */
  async function fetchManifest (
    repository: string,
    reference: string
  ): Promise<UpstreamAnswer & { body: Buffer } | undefined> {
    try {
      const answer = await ask(repository, address(repository, 'manifests', reference), maxManifestBytes, {
        accept: accepted
      })
      if (await isProvenAbsent(answer)) return undefined
      mustAnswer(answer)
      return answer
    } catch (error) {
      if (!isRegistryError(error) || error.proxyError !== 'http_response_body_size') throw error
      throw new ContentError('The manifest is longer than allowed', { cause: error })
    }
  }

  /** What a tag points at with its manifest, which says the digest where a server does not tell it. */
  async function resolveByContent (repository: string, tag: string) {
    const answer = await fetchManifest(repository, tag)
    if (answer === undefined) return undefined
    const told = String(answer.headers['docker-content-digest'] ?? '')
    const digest = isDigest(told) ? told : `sha256:${createHash('sha256').update(answer.body).digest('hex')}`
    verifyBytes(answer.body, digest)
    const manifest: Manifest = { digest, bytes: answer.body, ...mediaTypeOf(answer) }
    return { digest, manifest, ...mediaTypeOf(answer) }
  }

  return {
    local: false,
    named: new Set(options.repositories),
    closed: options.discovery === 'list',

    repositories: async namespace => await discovery.repositories(namespace),

    async tags (repository) {
      // What cannot be a name is not asked for: some servers have no route for it.
      if (!isRepositoryName(repository)) return undefined
      const first = address(repository, 'tags', 'list')
      first.searchParams.set('n', String(pageSize))
      const walk = async () =>
        await readPages(first, async url => await tagPage(repository, url), maxPages, tag => tagName.test(tag))
      let found = await walk()
      // Zot has no page behind a tag that is gone: begun anew once, and then it was the end of the list.
      if (found?.lost === true) found = await walk()
      if (found !== undefined && found.truncated !== false) {
        throw upstream.unexpected(`Answer has ${found.truncated}`, 'http_protocol_error')
      }
      // What is no name may stand for the only version: without another one nothing is proven.
      if (found?.damaged === true && !found.names.some(name => /^v?\d+\.\d+\.\d+/.test(name))) {
        throw upstream.unexpected('Answer has an unexpected form', 'http_protocol_error')
      }
      return found?.names.map(name => ({ name }))
    },

    async resolve (repository, tag, { wanted } = { wanted: false }) {
      if (!isRepositoryName(repository) || !tagName.test(tag)) return undefined
      if (wanted) return await resolveByContent(repository, tag)
      const answer = await ask(repository, address(repository, 'manifests', tag), maxManifestBytes, {
        method: 'HEAD',
        accept: accepted
      })
      if (await isProvenAbsent(answer)) return undefined
      if (answer.status !== 405 && answer.status !== 501) mustAnswer(answer)
      const digest = String(answer.headers['docker-content-digest'] ?? '')
      return isDigest(digest) ? { digest, ...mediaTypeOf(answer) } : await resolveByContent(repository, tag)
    },

    async manifest (repository, digest) {
      if (!isRepositoryName(repository) || !isDigest(digest)) return undefined
      const answer = await fetchManifest(repository, digest)
      if (answer === undefined) return undefined
      verifyBytes(answer.body, digest)
      return { digest, bytes: answer.body, ...mediaTypeOf(answer) }
    },

    async blob (repository, { digest, size }, { signal, offset: wanted = 0, etag }) {
      if (!isRepositoryName(repository) || !isDigest(digest)) return undefined
      // Begun again at the registry's own address: one that it redirected to may be worth nothing by now.
      const answer = await openFrom(
        { offset: wanted, size, constant: true, ...(etag !== undefined && { etag }) },
        async offset =>
          await authentication.asking(pull(repository), async given =>
            await upstream.stream(address(repository, 'blobs', digest), { signal, offset, ...given }))
      )
      if (await isProvenAbsent(answer)) return undefined
      const { status, headers, stream, offset } = answer
      // No credentials went to a storage on another origin, so it refuses none.
      if ((status === 401 || status === 403) && answer.url.origin !== upstream.origin) {
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
      throw new ContentError('The answer has another size than its descriptor says')
    },

    url: (repository, { digest }) => `${options.publicUrl}/v2/${repository}/blobs/${digest}`,

    ping
  }
}
