import type { Readable } from 'node:stream'
import type { Response } from 'got'
import { statusError } from './errors.ts'
import { openFrom, type Resumption } from './resume.ts'
import { createUpstreamTransport, isJson, type UpstreamDependencies, type UpstreamOptions } from './transport.ts'

export { readProxies } from './proxies.ts'
export type {
  UpstreamRequest as Question,
  UpstreamResponse as UpstreamAnswer,
  UpstreamDependencies,
  UpstreamObserver,
  UpstreamOptions
} from './transport.ts'

/** A JSON answer of `size` bytes, or why there is none: nothing is there, or it is elsewhere now. */
export type JsonResponse = { kind: 'found', body: unknown, headers: Response['headers'], size: number } | {
  kind: 'absent'
} | { kind: 'moved' }

/** Bytes of JSON that are read of one answer. */
const maxJsonBytes = 16 * 1024 * 1024

/** What one upstream says, read as JSON or as files; see {@link createUpstreamTransport} for how it is asked. */
export function createUpstream (dependencies: UpstreamDependencies, options: UpstreamOptions) {
  const { instance } = options
  const transport = createUpstreamTransport(dependencies, options)
  const { base, bytes, isRedirect, parse, redirected, unexpected } = transport

  return {
    ...transport,

    /**
     * JSON at an address, at most `most` bytes. Not JSON, or a login page, throws; so does every status but 200, 404
     * and a permanent redirect.
     */
    async json (url: URL, signal?: AbortSignal, maxBytes = maxJsonBytes): Promise<JsonResponse> {
      const { statusCode, headers, body } = await bytes(url, maxBytes, {
        accept: 'application/json',
        ...(signal !== undefined && { signal })
      })
      // Whatever stands before the upstream may say 404 or redirect, too; only the upstream's own word proves anything.
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
      if (/^text\/html\b/i.test(headers['content-type'] ?? '')) throw statusError(instance, 401)
      return { kind: 'found', body: parse(headers, body), headers, size: body.length }
    },

    /** A small file, whole; undefined when it is not there. Every status but 200 and 404 throws. */
    async file (url: URL, maxBytes: number): Promise<Buffer | undefined> {
      const { status, headers, body } = await this.request(url, maxBytes)
      if (status === 404) return undefined
      if (status !== 200) throw statusError(instance, status, headers)
      if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
        throw unexpected('Answer is compressed, which was not asked for', 'http_response_content_coding')
      }
      // A page instead of the file is what a server shows to those who may not have it.
      if (/^text\/html\b/i.test(headers['content-type'] ?? '')) throw statusError(instance, 401)
      return body
    },

    /**
     * Opens a file as `stream` does, at `at` where the upstream can; undefined when it is not there. Throws for any
     * other answer than the file.
     */
    async open (
      url: URL,
      at: Resumption & { signal: AbortSignal }
    ): Promise<{ stream: Readable, headers: Response['headers'], offset: number } | undefined> {
      const { status, headers, stream, offset } = await openFrom(
        at,
        async offset => await this.stream(url, { signal: at.signal, offset })
      )
      if (status === 404) return undefined
      if (stream === undefined) throw statusError(instance, status, headers)
      return { stream, headers, offset }
    }
  }
}
export type Upstream = ReturnType<typeof createUpstream>
