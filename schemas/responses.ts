import { Type, type TNull, type TSchema } from '@sinclair/typebox'
import { ErrorResponse } from './error.ts'
import { Ref } from './ref.ts'

/*
 * Descriptions of responses for the OpenAPI document: the headers of each status. `plugins/replies/plugin.ts`,
 * `lib/errors.ts` and the plugins with the names of the headers set them.
 */

interface Header { type: 'string' | 'integer', description: string, example?: string | number }
type Headers = Record<string, Header>

const text = (description: string, example?: string): Header => ({
  type: 'string',
  description,
  ...(example !== undefined && { example })
})
const integer = (description: string, example?: number): Header => ({
  type: 'integer',
  description,
  ...(example !== undefined && { example })
})

/** Headers for browsers only, which scripts do not need. */
const browserHeaders: Headers = {
  'Content-Security-Policy': text(
    'A response that is opened as a page loads no content and is not shown in frames',
    "default-src 'none';frame-ancestors 'none'"
  ),
  'Cross-Origin-Resource-Policy': text(
    '`cross-origin` if every origin may read the responses, else `same-origin`',
    'cross-origin'
  ),
  'Referrer-Policy': text('Always `no-referrer`', 'no-referrer'),
  'Strict-Transport-Security': text(
    'Present if `server.public_url` uses https',
    'max-age=31536000'
  ),
  'Access-Control-Allow-Origin': text(
    'Origin whose pages may read the response; absent if CORS is turned off',
    '*'
  ),
  'Access-Control-Expose-Headers': text(
    'Headers that those pages may read: all; absent if CORS is turned off',
    '*'
  ),
  Vary: text(
    '`Origin` if only some origins may read the responses, `Accept-Encoding` if the response has several content ' +
      'codings; else absent',
    'Accept-Encoding'
  )
}

const always: Headers = {
  'X-Request-Id': text('Id of the request in the log: the value of this header in the request, or a new one'),
  'X-Content-Type-Options': text('Always `nosniff`', 'nosniff'),
  ...browserHeaders
}

/** Headers of the rate limit (draft-ietf-httpapi-ratelimit-headers). */
const limitHeaders: Headers = {
  'RateLimit-Policy': text(
    'Number of requests to the catalog for each client, and length of the window in seconds; absent without a ' +
      'configured limit',
    '"default";q=100;w=60'
  ),
  RateLimit: text(
    'Number of requests that remain for the client, and seconds until the window ends; absent without a configured ' +
      'limit',
    '"default";r=50;t=30'
  )
}

/** Headers of every successful response of the catalog, which state the origin and age of the data. */
export const provenanceHeaders: Headers = {
  ...always,
  ...limitHeaders,
  ETag: text(
    'Strong validator of this response; each content coding has its own. `If-None-Match` with it gets 304, ' +
      '`If-Match` with another value gets 412'
  ),
  'Cache-Control': text(
    'Time for which the response may be reused; `no-cache` if it is stale or partial',
    'public, max-age=300, stale-if-error=86400'
  ),
  Age: integer('Age of the data in seconds (RFC 9111)', 12),
  'X-Cache-Hit': text('`true` if the response did not wait for an upstream, else `false`', 'true'),
  'X-Cache-TTL': integer('Seconds for which the response stays fresh; 0 if it is stale or partial', 288),
  'Cache-Status': text(
    'Use of the cache (RFC 9211); each instance with stale data is a separate member',
    'extension-registry; hit; ttl=288'
  ),
  'Proxy-Status': text(
    'Error of each instance that failed (RFC 9209); absent without an error',
    'gitea; error=connection_refused'
  ),
  'X-Partial': text(
    'Names of the instances whose entries are missing from this response; absent if it is complete. Single ' +
      'repositories that refuse the credentials do not count as missing',
    'gitea'
  )
}

/** Headers that HTTP clients evaluate themselves, because they decode the body before a program reads it. */
const codingHeaders: Headers = {
  'Content-Encoding': text(
    'Content coding of a larger response, `br` or `gzip`, if the client accepts it; else absent',
    'br'
  )
}

export const bodyHeaders: Headers = { ...provenanceHeaders, ...codingHeaders }

export const pageHeaders: Headers = {
  ...bodyHeaders,
  'X-Total-Count': integer('Total number of results, before `limit` is applied', 45)
}

export const listHeaders: Headers = {
  ...pageHeaders,
  Link: text(
    'Relative references to the first, previous, next and last page (RFC 8288)',
    '<?limit=10&offset=10>; rel="next"'
  )
}

export const downloadHeaders: Headers = {
  ...provenanceHeaders,
  'Content-Disposition': text(
    '`attachment` with the name of the file (RFC 6266)',
    'attachment; filename=kubernetes_taskserv.tar.gz'
  ),
  'Content-Length': integer('Size of the response body in bytes; absent if unknown', 2048000),
  'Accept-Ranges': text('Always `bytes`: `Range` requests a part of the file', 'bytes'),
  'Last-Modified': text(
    'Time at which the version was published; absent if unknown. `If-Unmodified-Since` with an earlier date gets ' +
      '412; `If-Modified-Since` never gets 304',
    'Wed, 15 Jan 2025 10:30:00 GMT'
  ),
  'Repr-Digest': text('Digest of the file (RFC 9530); absent if unknown', 'sha-256=:Zszlqj…:')
}

const { ETag, ...withoutValidator } = provenanceHeaders
const contentRange = (example: string): Headers => ({
  'Content-Range': text('Range of the bytes, and size of the file in bytes (RFC 9110)', example)
})

export const partHeaders: Headers = { ...downloadHeaders, ...contentRange('bytes 1048576-2047999/2048000') }

export const redirectHeaders: Headers = {
  ...withoutValidator,
  Location: text('Relative reference to the exact version, with the query of the request', '1.28.0')
}

export const systemHeaders: Headers = { ...always, 'Cache-Control': text('Always `no-store`', 'no-store') }

/** Returns the description of a response whose body has a named schema. */
export const jsonResponse = <T extends TSchema>(description: string, schema: T, headers: Headers = systemHeaders) =>
  ({ ...schema, description, headers }) as T

const errorDescriptions = {
  400: 'Invalid input: `invalid_type`, `invalid_version` or `invalid_request`',
  401: '`auth_error`: the upstreams that could have the data refuse the credentials of the registry',
  404: '`not_found`: the resource does not exist',
  409:
    '`conflict`: the version was published again with different content, its first download had no published ' +
      'checksum, and `store.on_rerelease` is `refuse`',
  412:
    '`precondition_failed`: `If-Match` does not name a current `ETag`, or the file was published after ' +
      '`If-Unmodified-Since`',
  416: '`range_not_satisfiable`: the range begins after the end of the file',
  429: '`rate_limit`: the rate limit of this registry or of an upstream is exceeded',
  500: '`internal_error` or `config_error`',
  503:
    '`service_unavailable`: an upstream that could have the data is unavailable and no cached data can be served, or ' +
      'the registry is overloaded'
}
type ErrorStatus = keyof typeof errorDescriptions

const retryAfter: Headers = { 'Retry-After': integer('Seconds to wait before a retry', 5) }
const perhapsRetryAfter: Headers = {
  'Retry-After': integer('Seconds to wait before a retry; absent if unknown', 5)
}

/** Names of the headers that clients use. The documentation describes each of them. */
export const exposedHeaders: readonly string[] = Object.keys({
  ...listHeaders,
  ...partHeaders,
  ...redirectHeaders,
  ...retryAfter
})
  .filter(name => !Object.hasOwn({ ...browserHeaders, ...codingHeaders }, name))

/** Returns the descriptions of the error responses of a route. */
export const errors = <S extends ErrorStatus>(...statuses: S[]) =>
  Object.fromEntries(statuses.map(status => [
    status,
    jsonResponse(errorDescriptions[status], Ref(ErrorResponse), {
      ...systemHeaders,
      ...limitHeaders,
      ...(status === 416 ? contentRange('bytes */2048000') : {}),
      ...(status === 503 ? retryAfter : status === 401 || status === 429 ? perhapsRetryAfter : {}),
      ...(status === 401 || status === 429 || status === 503
        ? { 'Proxy-Status': provenanceHeaders['Proxy-Status'] ?? text('') }
        : {})
    })
  ])) as Record<S, ReturnType<typeof Ref<typeof ErrorResponse>>>

/** Error responses that every route of the catalog may send. */
export const catalogErrors = errors(400, 401, 404, 429, 500, 503)

/** Returns the description of a response without a body. */
export const noBody = (description: string, headers: Headers): TNull & { description: string, headers: Headers } => ({
  ...Type.Null(),
  description,
  headers
})
