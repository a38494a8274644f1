import type { Readable } from 'node:stream'
import { parseJson } from '../../lib/json.ts'
import { statusError } from './errors.ts'
import type { ResponseHeaders } from './exchange.ts'
import { type UpstreamDependencies, type UpstreamOptions, createUpstreamTransport } from './transport.ts'
import { isRedirect } from './redirects.ts'
import { openFrom, type Resumption } from './resume.ts'

export { readProxies } from './proxies.ts'
export type { StreamResponse, UpstreamRequest, UpstreamResponse } from './exchange.ts'
export type { UpstreamDependencies, UpstreamOptions } from './transport.ts'

/** JSON of `size` bytes, or the reason for a missing body: the resource is absent or has moved. */
export type JsonResponse = { kind: 'found', body: unknown, headers: ResponseHeaders, size: number } | {
  kind: 'absent'
} | { kind: 'moved' }

/** Maximum bytes of a JSON response. */
const maxJsonBytes = 16 * 1024 * 1024

/** Returns whether the `Content-Type` of a response is JSON. */
const isJson = (headers: ResponseHeaders): boolean =>
  /^application\/(?:[\w.+-]+\+)?json\b/i.test(headers['content-type'] ?? '')

/** Returns whether the `Content-Type` of a response is HTML, as a login page has. */
const isHtml = (headers: ResponseHeaders): boolean => /^text\/html\b/i.test(headers['content-type'] ?? '')

/** Returns whether the body of a response has a content coding such as gzip. */
const isCompressed = (headers: ResponseHeaders): boolean =>
  (headers['content-encoding'] ?? 'identity') !== 'identity'

/** Creates the HTTP client of one instance, which reads JSON and files over {@link createUpstreamTransport}. */
export function createUpstream (dependencies: UpstreamDependencies, options: UpstreamOptions) {
  const { instance } = options
  const transport = createUpstreamTransport(dependencies, options)
  const { base, bytes, redirected, request, stream, unexpected } = transport

  /** Returns the value of a JSON body. Throws for another media type, a compressed body, and invalid JSON. */
  function parse (headers: ResponseHeaders, body: Uint8Array): unknown {
    if (!isJson(headers)) throw unexpected('Response is not JSON', 'http_protocol_error')
    if (isCompressed(headers)) {
      throw unexpected('Response has an unrequested content coding', 'http_response_content_coding')
    }
    try {
      return parseJson(body)
    } catch {
      throw unexpected('Response is not valid JSON', 'http_protocol_error')
    }
  }

  /**
   * Reads JSON of at most `maxBytes` bytes. Throws for another body, for a login page, and for every status but 200,
   * 404 and a permanent redirect.
   */
  async function json (url: URL, signal?: AbortSignal, maxBytes = maxJsonBytes): Promise<JsonResponse> {
    const { statusCode, headers, body } = await bytes(url, maxBytes, {
      accept: 'application/json',
      ...(signal !== undefined && { signal })
    })
    // A proxy in front of the upstream can send 404 and redirects as well. Only responses of the upstream itself are
    // proof.
    if (statusCode === 404 && isJson(headers)) return { kind: 'absent' }
    if (
      (statusCode === 301 || statusCode === 307 || statusCode === 308) &&
      redirected(url, headers.location).href.startsWith(`${base.href}api/`)
    ) return { kind: 'moved' }
    if (isRedirect(statusCode)) {
      redirected(url, headers.location)
      throw unexpected('Unexpected redirect', 'http_protocol_error')
    }
    if (statusCode !== 200) throw statusError(instance, statusCode, headers)
    if (isHtml(headers)) throw statusError(instance, 401)
    return { kind: 'found', body: parse(headers, body), headers, size: body.length }
  }

  /** Reads a small file; undefined when it is absent. Throws for every status but 200 and 404. */
  async function file (url: URL, maxBytes: number): Promise<Buffer | undefined> {
    const { status, headers, body } = await request(url, maxBytes)
    if (status === 404) return undefined
    if (status !== 200) throw statusError(instance, status, headers)
    if (isCompressed(headers)) {
      throw unexpected('Response has an unrequested content coding', 'http_response_content_coding')
    }
    // A server sends a page instead of the file to a client without access.
    if (isHtml(headers)) throw statusError(instance, 401)
    return body
  }

  /**
   * Opens a file as `stream` does, at an offset if the upstream supports it; undefined when the file is absent. Throws
   * for any other response.
   */
  async function open (
    url: URL,
    at: Resumption & { signal: AbortSignal }
  ): Promise<{ stream: Readable, headers: ResponseHeaders, offset: number } | undefined> {
    const { status, headers, stream: body, offset } = await openFrom(
      at,
      async offset => await stream(url, { signal: at.signal, offset })
    )
    if (status === 404) return undefined
    if (body === undefined) throw statusError(instance, status, headers)
    return { stream: body, headers, offset }
  }

  return { ...transport, parse, json, file, open }
}
export type Upstream = ReturnType<typeof createUpstream>
