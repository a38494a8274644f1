import type { FastifyInstance, FastifyReply, onSendHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { preconditionFailed, proxyMember } from '../../lib/errors.ts'
import type { ListPage, Result } from '../../lib/result.ts'
import { Extension } from '../../schemas/extension.ts'
import { Ref } from '../../schemas/ref.ts'
import type { Download } from '../downloads/download.ts'
import { createDownloadSlots, createFileReply, type OpenDownload } from './file.ts'
import { evaluateConditions, isConditional } from './conditional.ts'
import { createRepresentations, etagOf, etagsOf, type Representation } from './representation.ts'

export interface RepliesOptions { stale_if_error_seconds: number, max_downloads: number }

/** A value, or a promise of it. */
type MaybePromise<T> = T | Promise<T>

/** Schema of the items of lists. */
const item = Ref(Extension)

const json = 'application/json; charset=utf-8'
/** Name of this cache in `Cache-Status` (RFC 9211). */
const cacheName = 'extension-registry'

declare module 'fastify' {
  interface FastifyReply {
    /**
     * Sends the value of a result with headers that state its origin and an ETag; sends 304 when the client has it. A
     * result that is not a promise is sent synchronously. A handler must return the return value.
     */
    sendResource (result: MaybePromise<Result<object>>): MaybePromise<void>
    /** Sends a part of a list in the same way; with `query` it adds links to the other parts. */
    sendList(
      result: MaybePromise<Result<ListPage<Extension>>>,
      paging?: { query: Record<string, string | undefined>, limit: number, offset: number }
    ): MaybePromise<void>
    /** Sends the file that `open` opens as a download. For HEAD it sends only the headers, without opening the file. */
    sendDownload<T extends Download> (result: Result<T>, open: OpenDownload<T>): Promise<FastifyReply>
    /** Redirects (302) from the requested path to the exact version at the same level, with the same query. */
    redirectToVersion (result: Result<{ version: string }>): FastifyReply
  }
}

/**
 * Returns the `Link` header with the pages of a list (RFC 8288). References are relative to the request's path, so that
 * they are correct below any prefix and behind any proxy.
 */
function pageLinks (
  query: Record<string, string | undefined>,
  { limit, offset, total }: { limit: number, offset: number, total: number }
): string {
  let scope = '<?'
  for (const key in query) {
    if (query[key] !== undefined) scope += `${encodeURIComponent(key)}=${encodeURIComponent(query[key])}&`
  }
  const link = (rel: string, to: number): string => `${scope}limit=${limit}&offset=${to}>; rel="${rel}"`
  const last = Math.max(0, Math.floor((total - 1) / limit) * limit)
  let links = link('first', 0)
  if (offset > 0) links += `, ${link('prev', Math.min(last, Math.max(0, offset - limit)))}`
  if (offset + limit < total) links += `, ${link('next', offset + limit)}`
  return `${links}, ${link('last', last)}`
}

/** Returns the headers that describe the origin of a response: RFC 9111, RFC 9209 and RFC 9211. */
function provenance (
  { age, ttl, hit, stale, missing }: Result<unknown>,
  staleIfError: number
): Record<string, string> {
  const whole = stale.length === 0 && missing.length === 0
  const left = String(whole ? Math.floor(ttl) : 0)
  const ours = `${cacheName}; ${hit ? 'hit' : 'fwd=miss'}; ttl=${left}`
  const headers: Record<string, string> = {
    // A downstream cache subtracts `Age` from `max-age`, so that `ttl` remains.
    'cache-control': whole ? `public, max-age=${Math.round(age + ttl)}, stale-if-error=${staleIfError}` : 'no-cache',
    age: String(Math.floor(age)),
    'x-cache-hit': hit ? 'true' : 'false',
    'x-cache-ttl': left,
    'cache-status': whole
      ? ours
      : [...stale.map(({ instance }) => `${proxyMember(instance)}; hit; detail=stale`), ours].join(', ')
  }
  if (whole) return headers
  const failed = [...stale, ...missing].flatMap(({ instance, error }) =>
    error === undefined ? [] : [`${proxyMember(instance)}; error=${error.proxyError ?? 'proxy_internal_response'}`]
  )
  if (missing.length > 0) headers['x-partial'] = missing.map(({ instance }) => instance).join(', ')
  if (failed.length > 0) headers['proxy-status'] = failed.join(', ')
  return headers
}

/**
 * Removes `Content-Length` from a 304, which may only state the length of the representation (RFC 9110, section 8.6).
 * Fastify's HEAD routes set it to 0, the length of the empty body.
 */
const withoutLength: onSendHookHandler = (_request, reply, payload, done) => {
  if (reply.statusCode === 304) reply.removeHeader('content-length')
  done(null, payload)
}

/** Sends a result immediately, or after its promise has resolved. */
function sendWhenThere<T> (
  reply: FastifyReply,
  result: MaybePromise<T>,
  send: (result: T) => void
): MaybePromise<void> {
  if (result instanceof Promise) return sendLater(reply, result, send)
  send(result)
}

async function sendLater<T> (reply: FastifyReply, promise: Promise<T>, send: (result: T) => void): Promise<void> {
  send(await promise)
  // Fastify sends an empty response when an async handler ends before the response. Hooks of a host may delay the
  // response, so the handler waits for it.
  await reply
}

/** Adds the reply decorators, the only place where results become headers. */
async function replies (
  fastify: FastifyInstance,
  { stale_if_error_seconds: staleIfError, max_downloads: maxDownloads }: RepliesOptions
): Promise<void> {
  const { telemetry } = fastify
  fastify.addHook('onRoute', route => {
    if (route.method === 'HEAD') route.onSend = [...[route.onSend ?? []].flat(), withoutLength]
  })
  const representations = createRepresentations()
  const slots = createDownloadSlots(maxDownloads)
  telemetry.gauge<string>('downloads_active', 'Active downloads', [], () => [{ labels: {}, value: slots.active() }])

  /**
   * Sends a body in the client's preferred coding, or 304 when the client has it in that coding or uncompressed. Throws
   * `precondition_failed` when `If-Match` contains none of the entity tags. The body has no modification date.
   */
  function sendRepresentation (reply: FastifyReply, body: Representation): void {
    if (body.large) {
      const vary = reply.getHeader('vary')
      reply.header('vary', vary === undefined ? 'Accept-Encoding' : `${String(vary)}, Accept-Encoding`)
    }
    const { request } = reply
    const expected = representations.preferredCoding(body, request.headers['accept-encoding'])
    const refusal = isConditional(request)
      ? evaluateConditions(request, { current: () => etagsOf(body), usable: [etagOf(body, expected), body.plain.etag] })
      : undefined
    if (refusal?.status === 412) throw preconditionFailed(refusal.header)
    if (refusal !== undefined) {
      void reply.header('etag', refusal.etag).code(304).send()
      return
    }
    const { content, etag, coding } = representations.take(body, expected)
    if (coding !== undefined) reply.header('content-encoding', coding)
    void reply.header('etag', etag).header('content-type', json).send(content)
  }

  fastify.decorateReply('sendResource', function (this: FastifyReply, awaited) {
    return sendWhenThere(this, awaited, result => {
      sendRepresentation(
        this.headers(provenance(result, staleIfError)),
        representations.of(result.value, value => String(this.serialize(value)))
      )
    })
  })

  fastify.decorateReply('sendList', function (this: FastifyReply, awaited, paging) {
    return sendWhenThere(this, awaited, result => {
      const { items, total } = result.value
      this.headers(provenance(result, staleIfError)).header('x-total-count', String(total))
      if (paging !== undefined) this.header('link', pageLinks(paging.query, { ...paging, total }))
      sendRepresentation(
        this,
        representations.ofList(items, () => this.compileSerializationSchema(item) as (value: object) => string)
      )
    })
  })

  fastify.decorateReply('redirectToVersion', function (this: FastifyReply, result) {
    const { url } = this.request
    // The router treats a number sign like the start of a query, and allows it in the query. In a `Location` it would
    // start a fragment.
    const query = url.search(/[?#]/)
    const location = encodeURIComponent(result.value.version) +
      (query === -1 ? '' : `?${url.slice(query + 1).replaceAll('#', '%23')}`)
    return this.headers(provenance(result, staleIfError)).code(302).header('location', location).send()
  })

  const sendFile = createFileReply({ slots, onShed: () => { telemetry.observeShed('downloads') } })
  fastify.decorateReply('sendDownload', async function<T extends Download> (
    this: FastifyReply,
    result: Result<T>,
    open: OpenDownload<T>
  ) {
    const { value, hit } = result
    return await sendFile(this, value, open, waited => provenance({ ...result, hit: hit && !waited }, staleIfError))
  })
}

export default fp(replies, {
  name: 'registry-replies',
  fastify: '5.x',
  dependencies: ['registry-telemetry'],
  decorators: { fastify: ['telemetry'] }
})
