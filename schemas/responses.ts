import { Type, type TNull, type TSchema } from '@sinclair/typebox'
import { ErrorResponse } from './error.ts'
import { Ref } from './ref.ts'

/*
 * Descriptions of answers for the OpenAPI document: which headers come with which status. The headers themselves are
 * made in `plugins/replies/plugin.ts`, `lib/errors.ts`, and the plugins that are named like them.
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

/** What browsers obey; no client reads it. */
const browserHeaders: Headers = {
  'Content-Security-Policy': text(
    'Opened as a page, an answer loads nothing and is shown in no frame',
    "default-src 'none';frame-ancestors 'none'"
  ),
  'Cross-Origin-Resource-Policy': text(
    '`cross-origin` where every origin may read the answers, else `same-origin`',
    'cross-origin'
  ),
  'Referrer-Policy': text('Always `no-referrer`', 'no-referrer'),
  'Strict-Transport-Security': text(
    'Where the registry is configured to be reached by https; else absent',
    'max-age=31536000'
  ),
  'Access-Control-Allow-Origin': text(
    'Whose pages may read the answer; absent where cross-origin reading is turned off',
    '*'
  ),
  'Access-Control-Expose-Headers': text(
    'Headers that those pages may read; absent where cross-origin reading is turned off'
  ),
  Vary: text(
    '`Origin` where some origins may read the answers and others may not, `Accept-Encoding` where the answer has ' +
      'other forms; else absent',
    'Accept-Encoding'
  )
}

const always: Headers = {
  'X-Request-Id': text("The request's id, taken from the request's own header or made up; it stands in the log"),
  'X-Content-Type-Options': text('Always `nosniff`', 'nosniff'),
  ...browserHeaders
}

/** How the client stands with the limit on requests (draft-ietf-httpapi-ratelimit-headers). */
const limitHeaders: Headers = {
  'RateLimit-Policy': text(
    'Requests to the catalog that one client has in a window of seconds; absent where no limit is configured',
    '"default";q=100;w=60'
  ),
  RateLimit: text(
    'Requests that are left to the client, and the seconds until it has all of them again; absent where no limit is ' +
      'configured',
    '"default";r=50;t=30'
  )
}

/** What every answer of the catalog says about where it comes from. */
export const provenanceHeaders: Headers = {
  ...always,
  ...limitHeaders,
  ETag: text(
    'Strong validator of this response, of each coding its own; `If-None-Match` with it gets 304, `If-Match` with ' +
      'another one 412'
  ),
  'Cache-Control': text(
    'How long the answer may be reused; `no-cache` when it is stale or partial',
    'public, max-age=300, stale-if-error=86400'
  ),
  Age: integer('Seconds since the upstreams said so (RFC 9111)', 12),
  'X-Cache-Hit': text('`true` when this answer waited for no upstream, else `false`', 'true'),
  'X-Cache-TTL': integer('Seconds that this answer stays fresh; 0 when stale or partial', 288),
  'Cache-Status': text(
    'How the cache was used (RFC 9211); instances whose older entries stand in are members of their own',
    'extension-registry; hit; ttl=288'
  ),
  'Proxy-Status': text(
    'What went wrong with which instance (RFC 9209); absent when nothing did',
    'gitea; error=connection_refused'
  ),
  'X-Partial': text(
    'Names of the instances whose entries are missing from this answer; absent when none is. Single repositories ' +
      'that refuse the credentials are not counted as missing',
    'gitea'
  )
}

/** What the HTTP client undoes before anybody reads the answer. */
const codingHeaders: Headers = {
  'Content-Encoding': text(
    'How a larger answer is compressed, where the client accepts it: `br` or `gzip`; else absent',
    'br'
  )
}

export const bodyHeaders: Headers = { ...provenanceHeaders, ...codingHeaders }

export const pageHeaders: Headers = {
  ...bodyHeaders,
  'X-Total-Count': integer('Results in all, whatever the limit', 45)
}

export const listHeaders: Headers = {
  ...pageHeaders,
  Link: text(
    'First, previous, next and last page (RFC 8288), as relative references',
    '<?limit=10&offset=10>; rel="next"'
  )
}

export const downloadHeaders: Headers = {
  ...provenanceHeaders,
  'Content-Disposition': text(
    "`attachment` with the file's real name (RFC 6266)",
    'attachment; filename=kubernetes_taskserv.tar.gz'
  ),
  'Content-Length': integer('Bytes of the answer; absent when unknown', 2048000),
  'Accept-Ranges': text('Always `bytes`: a part of the file may be asked for with `Range`', 'bytes'),
  'Last-Modified': text(
    'When the version was published; absent when unknown. `If-Unmodified-Since` with an earlier date gets 412; ' +
      '`If-Modified-Since` never gets 304',
    'Wed, 15 Jan 2025 10:30:00 GMT'
  ),
  'Repr-Digest': text('Digest of the file (RFC 9530); absent when none is known', 'sha-256=:Zszlqj…:')
}

const { ETag, ...withoutValidator } = provenanceHeaders
const contentRange = (example: string): Headers => ({
  'Content-Range': text('Which bytes of how many (RFC 9110)', example)
})

export const partHeaders: Headers = { ...downloadHeaders, ...contentRange('bytes 1048576-2047999/2048000') }

export const redirectHeaders: Headers = {
  ...withoutValidator,
  Location: text('Relative reference to the exact version, with the query of the request', '1.28.0')
}

export const systemHeaders: Headers = { ...always, 'Cache-Control': text('Always `no-store`', 'no-store') }

/** An answer with a body of a named schema. */
export const jsonResponse = <T extends TSchema>(description: string, schema: T, headers: Headers = systemHeaders) =>
  ({ ...schema, description, headers }) as T

const errorDescriptions = {
  400: 'Invalid input: `invalid_type`, `invalid_version` or `invalid_request`',
  401: "`auth_error`: the upstreams that could answer refuse the registry's own credentials",
  404: '`not_found`: the resource does not exist',
  409:
    '`conflict`: the version was published again with different content, and the registry is configured to refuse that',
  412:
    '`precondition_failed`: `If-Match` does not name a current `ETag`, or the file was published after ' +
      '`If-Unmodified-Since`',
  416: '`range_not_satisfiable`: the range begins behind the end of the file',
  429: "`rate_limit`: the client's limit at this registry, or an upstream's, is exceeded",
  500: '`internal_error` or `config_error`',
  503:
    '`service_unavailable`: an upstream that could own the answer cannot be asked, and nothing cached may stand in; ' +
      'or the registry is overloaded'
}
type ErrorStatus = keyof typeof errorDescriptions

const retryAfter: Headers = { 'Retry-After': integer('Seconds after which to ask again', 5) }
const perhapsRetryAfter: Headers = {
  'Retry-After': integer('Seconds after which to ask again; absent when nobody knows', 5)
}

/** Every header above that means something to a client: pages of other origins may read these. */
export const exposedHeaders: readonly string[] = Object.keys({
  ...listHeaders,
  ...partHeaders,
  ...redirectHeaders,
  ...retryAfter
})
  .filter(name => !Object.hasOwn({ ...browserHeaders, ...codingHeaders }, name))

/** The error answers of a route, each in the one envelope. */
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

/** The errors that any route of the catalog may answer. */
export const catalogErrors = errors(400, 401, 404, 429, 500, 503)

/** An answer without a body. */
export const noBody = (description: string, headers: Headers): TNull & { description: string, headers: Headers } => ({
  ...Type.Null(),
  description,
  headers
})
