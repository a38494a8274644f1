import { statusError } from '../../../plugins/upstream/errors.ts'
import { openFrom } from '../../../plugins/upstream/resume.ts'
import type { Upstream } from '../../../plugins/upstream/client.ts'
import { isRepositoryName, TagList } from '../../../schemas/oci.ts'
import { createAuthentication, type AuthenticationOptions } from './authentication.ts'
import { isDigest } from '../content.ts'
import { createDiscovery, pageBytes, type DiscoveryOptions } from './discovery.ts'
import { createManifests } from './manifests.ts'
import { checked, nextPage, readPages, type NamesPage } from './paging.ts'
import { createRequests, pullScope } from './requests.ts'
import { ContentError, type Transport } from '../transport.ts'

export interface OciRegistryOptions extends Omit<AuthenticationOptions, 'upstream'> {
  discovery: DiscoveryOptions['kind']
  /** Full names of repositories that exist even where the registry does not list them. */
  repositories: readonly string[]
  /** Base of the addresses that people open, without a trailing slash. */
  publicUrl: string
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

    repositories: async namespace => await discovery.repositories(namespace),

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
