import type { FastifyInstance, FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { Extension } from '../schemas/extension.ts'
import { Ref } from '../schemas/ref.ts'
import { createBodies, type Body } from './body.ts'
import { createDownloadSlots } from './download-slots.ts'
import { proxyMember, type RegistryError } from './errors.ts'
import { createFileReply, type Download } from './file-reply.ts'
import { notModified } from './not-modified.ts'

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

export type { Download } from './file-reply.ts'

export interface AnswerOptions { stale_if_error_seconds: number, max_downloads: number }

/** What lists are made of. */
const item = Ref(Extension)

const cacheName = 'extension-registry'

/** What every answer of the catalog says about itself (RFC 9111, RFC 9209, RFC 9211). */
function provenance ({ age, ttl, hit, stale, missing }: Answer<unknown>, staleIfError: number): Record<string, string> {
  const marks = [...stale, ...missing]
  const whole = marks.length === 0
  const failed = marks.flatMap(({ instance, error }) => error === undefined ? [] : [`${proxyMember(instance)}; error=${error.proxyError ?? 'proxy_internal_response'}`])
  return {
    // A cache downstream subtracts Age from max-age, so that what is left is ttl.
    'cache-control': whole ? `public, max-age=${Math.round(age + ttl)}, stale-if-error=${staleIfError}` : 'no-cache',
    age: String(Math.floor(age)),
    'x-cache-hit': String(hit),
    'x-cache-ttl': String(whole ? Math.floor(ttl) : 0),
    'cache-status': [
      ...stale.map(({ instance }) => `${proxyMember(instance)}; hit; detail=stale`),
      `${cacheName}; ${hit ? 'hit' : 'fwd=miss'}; ttl=${whole ? Math.floor(ttl) : 0}`
    ].join(', '),
    ...(missing.length > 0 && { 'x-partial': missing.map(({ instance }) => instance).join(', ') }),
    ...(failed.length > 0 && { 'proxy-status': failed.join(', ') }),
    'x-content-type-options': 'nosniff'
  }
}

/**
 * `Link` to the other pages of a list (RFC 8288): relative references of the request's own path, so that they hold below
 * any prefix and behind any proxy.
 */
export function pageLinks (query: Record<string, string | number | undefined>, { limit, offset, total }: { limit: number, offset: number, total: number }): string {
  const last = Math.max(0, Math.floor((total - 1) / limit) * limit)
  const link = (rel: string, to: number) => {
    const parameters = Object.entries({ ...query, limit, offset: to }).filter(([, value]) => value !== undefined)
    return `<?${new URLSearchParams(parameters.map(([key, value]): [string, string] => [key, String(value)])).toString()}>; rel="${rel}"`
  }
  return [
    link('first', 0),
    ...(offset > 0 ? [link('prev', Math.min(last, Math.max(0, offset - limit)))] : []),
    ...(offset + limit < total ? [link('next', offset + limit)] : []),
    link('last', last)
  ].join(', ')
}

declare module 'fastify' {
  interface FastifyReply {
    /** Sends an answer's value with the headers that say where it comes from, an ETag, and 304 when the client has it. */
    answer (answer: Answer<object>): FastifyReply
    /** The same for part of a list; with `query` it links to the other parts. */
    answerPage (answer: Answer<Page<Extension>>, paging?: { query: Record<string, string | number | undefined>, limit: number, offset: number }): FastifyReply
    /** Sends a file as a download; to HEAD its headers only, without opening it. */
    answerFile (answer: Answer<Download>): Promise<FastifyReply>
    /** Redirects (302) to the exact version beside the path asked for, keeping the query. */
    answerVersion (answer: Answer<{ version: string }>): FastifyReply
  }
}

/** Reply decorators: the one place where answers become headers. */
async function answers (fastify: FastifyInstance, { stale_if_error_seconds: staleIfError, max_downloads: mostDownloads }: AnswerOptions): Promise<void> {
  const { telemetry } = fastify
  const bodies = createBodies()
  const slots = createDownloadSlots(mostDownloads)
  telemetry.gauge<string>('downloads_active', 'Downloads under way', [], () => [{ labels: {}, value: slots.active() }])

  /** Sends a body in the coding that the client likes best; or 304. */
  function sendBody (reply: FastifyReply, body: Body): FastifyReply {
    const { bytes, etag, coding, current } = bodies.represent(body, reply.request.headers['accept-encoding'], etag => notModified(reply, etag))
    reply.header('etag', etag)
    if (body.large) {
      const vary = reply.getHeader('vary')
      reply.header('vary', vary === undefined ? 'Accept-Encoding' : `${String(vary)}, Accept-Encoding`)
    }
    if (current) return reply.code(304).send()
    if (coding !== undefined) reply.header('content-encoding', coding)
    return reply.type('application/json; charset=utf-8').send(bytes)
  }

  fastify.decorateReply('answer', function (this: FastifyReply, answer) {
    return sendBody(this.headers(provenance(answer, staleIfError)), bodies.of(answer.value, value => String(this.serialize(value))))
  })

  fastify.decorateReply('answerPage', function (this: FastifyReply, answer, paging) {
    const { items, total } = answer.value
    this.headers(provenance(answer, staleIfError)).header('x-total-count', String(total))
    if (paging !== undefined) this.header('link', pageLinks(paging.query, { ...paging, total }))
    return sendBody(this, bodies.ofList(items, this.compileSerializationSchema(item) as (value: object) => string))
  })

  fastify.decorateReply('answerVersion', function (this: FastifyReply, answer) {
    const query = this.request.url.indexOf('?')
    const location = encodeURIComponent(answer.value.version) + (query === -1 ? '' : this.request.url.slice(query))
    return this.headers(provenance(answer, staleIfError)).code(302).header('location', location).send()
  })

  const fileReply = createFileReply({ slots, onShed: () => { telemetry.observeShed('downloads') } })
  fastify.decorateReply('answerFile', async function (this: FastifyReply, answer) {
    return await fileReply(this, answer.value, waited => provenance({ ...answer, hit: answer.hit && !waited }, staleIfError))
  })
}

export default fp(answers, { name: 'registry-answers', fastify: '5.x', dependencies: ['registry-telemetry'], decorators: { fastify: ['telemetry'] } })
