import { parseJson } from '../../../lib/json.ts'
import { statusError } from '../../../plugins/upstream/errors.ts'
import type { UpstreamRequest as RequestOptions, Upstream, UpstreamResponse } from '../../../plugins/upstream/client.ts'
import type { Authentication } from './authentication.ts'
import { pageBytes } from './discovery.ts'

export interface RequestsOptions {
  instance: string
  upstream: Upstream
  authentication: Authentication
}

/** Returns the scope of a token that permits to read a repository. */
export const pullScope = (repository: string): string => `repository:${repository}:pull`

/** Creates the requests to a registry's API, with their authorization, and the checks of their responses. */
export function createRequests ({ instance, upstream, authentication }: RequestsOptions) {
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
export type Requests = ReturnType<typeof createRequests>
