import type { FastifyInstance, FastifyReply, onSendHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { Extension } from '../../schemas/extension.ts'
import { Ref } from '../../schemas/ref.ts'
import type { Awaitable } from '../../lib/maybe-promise.ts'
import { createBodies, etagOf, etagsOf, type Body } from './representation.ts'
import { evaluateConditions, isConditional } from './conditional.ts'
import { createDownloadSlots } from '../downloads/slots.ts'
import { preconditionFailed, proxyMember, type RegistryError } from '../../lib/errors.ts'
import { createFileReply, type Download } from './file.ts'

/** An instance that an answer does without, or has only older entries of, and why. */
export interface Mark { instance: string, error: RegistryError | undefined }

/** A value with what is known about where it comes from. */
export interface Answer<T> {
  value: T
  /** Seconds since the upstreams said so; of several, the oldest. */
  age: number
  /** Seconds that it stays fresh; 0 when stale or partial. */
  ttl: number
  /** Whether no upstream was waited for. */
  hit: boolean
  /** Instances whose older entries stand in. */
  stale: Mark[]
  /** Instances whose entries are missing. */
  missing: Mark[]
}

/** Part of a longer list. */
export interface Page<T> { items: readonly T[], total: number }

export type { Download } from './file.ts'

export interface AnswerOptions { stale_if_error_seconds: number, max_downloads: number }

/** What lists are made of. */
const item = Ref(Extension)

const cacheName = 'extension-registry'
const json = 'application/json; charset=utf-8'

/** What every answer of the catalog says about itself (RFC 9111, RFC 9209, RFC 9211). */
function provenance ({ age, ttl, hit, stale, missing }: Answer<unknown>, staleIfError: number): Record<string, string> {
  const whole = stale.length === 0 && missing.length === 0
  const left = String(whole ? Math.floor(ttl) : 0)
  const ours = `${cacheName}; ${hit ? 'hit' : 'fwd=miss'}; ttl=${left}`
  const headers: Record<string, string> = {
    // A cache downstream subtracts Age from max-age, so that what is left is ttl.
    'cache-control': whole ? `public, max-age=${Math.round(age + ttl)}, stale-if-error=${staleIfError}` : 'no-cache',
    age: String(Math.floor(age)),
    'x-cache-hit': hit ? 'true' : 'false',
    'x-cache-ttl': left,
    'cache-status': whole ? ours : [...stale.map(({ instance }) => `${proxyMember(instance)}; hit; detail=stale`), ours].join(', ')
  }
  if (whole) return headers
  const failed = [...stale, ...missing].flatMap(({ instance, error }) => error === undefined ? [] : [`${proxyMember(instance)}; error=${error.proxyError ?? 'proxy_internal_response'}`])
  if (missing.length > 0) headers['x-partial'] = missing.map(({ instance }) => instance).join(', ')
  if (failed.length > 0) headers['proxy-status'] = failed.join(', ')
  return headers
}

/**
 * `Link` to the other pages of a list (RFC 8288): relative references of the request's own path, so that they hold below
 * any prefix and behind any proxy.
 */
export function pageLinks (query: Record<string, string | undefined>, { limit, offset, total }: { limit: number, offset: number, total: number }): string {
  let scope = '<?'
  for (const key in query) if (query[key] !== undefined) scope += `${encodeURIComponent(key)}=${encodeURIComponent(query[key])}&`
  const link = (rel: string, to: number): string => `${scope}limit=${limit}&offset=${to}>; rel="${rel}"`
  const last = Math.max(0, Math.floor((total - 1) / limit) * limit)
  let links = link('first', 0)
  if (offset > 0) links += `, ${link('prev', Math.min(last, Math.max(0, offset - limit)))}`
  if (offset + limit < total) links += `, ${link('next', offset + limit)}`
  return `${links}, ${link('last', last)}`
}

declare module 'fastify' {
  interface FastifyReply {
    /**
     * Sends an answer's value with the headers that say where it comes from, an ETag, and 304 when the client has it. What is
     * there already is sent at once, without a promise; a handler gives back what this gives.
     */
    answer (answer: Awaitable<Answer<object>>): Awaitable<void>
    /** The same for part of a list; with `query` it links to the other parts. */
    answerPage (answer: Awaitable<Answer<Page<Extension>>>, paging?: { query: Record<string, string | undefined>, limit: number, offset: number }): Awaitable<void>
    /** Sends a file as a download; to HEAD its headers only, without opening it. */
    answerFile (answer: Answer<Download>): Promise<FastifyReply>
    /** Redirects (302) to the exact version beside the path asked for, keeping the query. */
    answerVersion (answer: Answer<{ version: string }>): FastifyReply
  }
}

/** A 304 tells no length but that of the bytes (RFC 9110, section 8.6); Fastify's HEAD routes have set that of what they send, 0. */
const withoutLength: onSendHookHandler = (_request, reply, payload, done) => {
  if (reply.statusCode === 304) reply.removeHeader('content-length')
  done(null, payload)
}

/** Sends what is there at once, and else when it has come. */
function sendWhenThere<T> (reply: FastifyReply, awaited: Awaitable<T>, send: (answer: T) => void): Awaitable<void> {
  if (awaited instanceof Promise) return sendLater(reply, awaited, send)
  send(awaited)
}

async function sendLater<T> (reply: FastifyReply, promise: Promise<T>, send: (answer: T) => void): Promise<void> {
  send(await promise)
  // To Fastify a handler that has ended and sent nothing sends nothing; and a host's hook may take its time with what was sent.
  await reply
}

/** Reply decorators: the one place where answers become headers. */
async function answers (fastify: FastifyInstance, { stale_if_error_seconds: staleIfError, max_downloads: mostDownloads }: AnswerOptions): Promise<void> {
  const { telemetry } = fastify
  fastify.addHook('onRoute', route => {
    if (route.method === 'HEAD') route.onSend = [...[route.onSend ?? []].flat(), withoutLength]
  })
  const bodies = createBodies()
  const slots = createDownloadSlots(mostDownloads)
  telemetry.gauge<string>('downloads_active', 'Downloads under way', [], () => [{ labels: {}, value: slots.active() }])

  /**
   * Sends a body in the coding that the client likes best; or 304 when it has that, or the bytes as they are. Throws
   * `precondition_failed` when `If-Match` names none of its codings. It has no modification date.
   */
  function sendBody (reply: FastifyReply, body: Body): void {
    if (body.large) {
      const vary = reply.getHeader('vary')
      reply.header('vary', vary === undefined ? 'Accept-Encoding' : `${String(vary)}, Accept-Encoding`)
    }
    const { request } = reply
    const wanted = bodies.preferredCoding(body, request.headers['accept-encoding'])
    const refusal = isConditional(request) ? evaluateConditions(request, { current: () => etagsOf(body), usable: [etagOf(body, wanted), body.plain.etag] }) : undefined
    if (refusal?.status === 412) throw preconditionFailed(refusal.header)
    if (refusal !== undefined) {
      void reply.header('etag', refusal.etag).code(304).send()
      return
    }
    const { content, etag, coding } = bodies.take(body, wanted)
    if (coding !== undefined) reply.header('content-encoding', coding)
    void reply.header('etag', etag).header('content-type', json).send(content)
  }

  fastify.decorateReply('answer', function (this: FastifyReply, awaited) {
    return sendWhenThere(this, awaited, answer => {
      sendBody(this.headers(provenance(answer, staleIfError)), bodies.of(answer.value, value => String(this.serialize(value))))
    })
  })

  fastify.decorateReply('answerPage', function (this: FastifyReply, awaited, paging) {
    return sendWhenThere(this, awaited, answer => {
      const { items, total } = answer.value
      this.headers(provenance(answer, staleIfError)).header('x-total-count', String(total))
      if (paging !== undefined) this.header('link', pageLinks(paging.query, { ...paging, total }))
      sendBody(this, bodies.ofList(items, () => this.compileSerializationSchema(item) as (value: object) => string))
    })
  })

  fastify.decorateReply('answerVersion', function (this: FastifyReply, answer) {
    const { url } = this.request
    // The router takes a number sign for a question mark, and for any character after that; in a Location it would begin a fragment.
    const query = url.search(/[?#]/)
    const location = encodeURIComponent(answer.value.version) + (query === -1 ? '' : `?${url.slice(query + 1).replaceAll('#', '%23')}`)
    return this.headers(provenance(answer, staleIfError)).code(302).header('location', location).send()
  })

  const fileReply = createFileReply({ slots, onShed: () => { telemetry.observeShed('downloads') } })
  fastify.decorateReply('answerFile', async function (this: FastifyReply, answer) {
    return await fileReply(this, answer.value, waited => provenance({ ...answer, hit: answer.hit && !waited }, staleIfError))
  })
}

export default fp(answers, { name: 'registry-answers', fastify: '5.x', dependencies: ['registry-telemetry'], decorators: { fastify: ['telemetry'] } })
