import { createHash } from 'node:crypto'
import { pipeline, Transform, type Readable } from 'node:stream'
import { create as contentDisposition } from 'content-disposition'
import type { FastifyInstance, FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import fresh from 'fresh'
import { createDownloadSlots } from './download-slots.ts'
import { proxyMember, registryError, type RegistryError } from './errors.ts'

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

/** What is said of a file. */
export interface FileFacts {
  name: string
  size?: number
  /** `sha256:…` and the like, when the publisher or the registry says. */
  checksum?: string
  /** Changes when the content does. */
  validator: string
}

/** A file that is only fetched when it is opened. */
export interface Download {
  file: FileFacts
  /** Opens the content; `file` is what it then is, which may have been replaced, and `length` its number of bytes, when known. The stream ends when `signal` is aborted. */
  open: (signal: AbortSignal) => Promise<{ file: FileFacts, stream: Readable, length?: number }>
}

export interface AnswerOptions { stale_if_error_seconds: number, max_downloads: number }

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

/** Whether the client already has what `etag` names (RFC 9110 section 13.1.2). */
function notModified (reply: FastifyReply, etag: string): boolean {
  const { method, headers } = reply.request
  // `no-cache` speaks to caches on the way, and comes with every conditional `fetch`: the condition holds all the same.
  return (method === 'GET' || method === 'HEAD') && fresh({ 'if-none-match': headers['if-none-match'] }, { etag })
}

/** An object or array, serialized by the route's response schema, with a strong ETag of its bytes; or 304. */
function sendBody (reply: FastifyReply, body: object): FastifyReply {
  const payload = String(reply.serialize(body))
  const etag = `"${createHash('sha256').update(payload).digest('base64url').slice(0, 27)}"`
  reply.header('etag', etag)
  if (notModified(reply, etag)) return reply.code(304).send()
  return reply.type('application/json; charset=utf-8').send(payload)
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

/** The checksum as RFC 9530 has it; only for algorithms that it knows. */
function reprDigest (checksum: string | undefined): Record<string, string> {
  const [algorithm, hex = ''] = checksum?.split(':', 2) ?? []
  const name = algorithm === 'sha256' ? 'sha-256' : algorithm === 'sha512' ? 'sha-512' : undefined
  return name === undefined ? {} : { 'repr-digest': `${name}=:${Buffer.from(hex, 'hex').toString('base64')}:` }
}

/** Passes bytes on, tells how many, and fails where they are not as many as was promised: another number would pass for part of the next answer. */
function measure (length: number | undefined, count: (bytes: number) => void): Transform {
  let sent = 0
  const wrong = () => registryError('service_unavailable', 'The file is not as long as it was published', { proxyError: 'http_response_incomplete' })
  return new Transform({
    transform (chunk: Buffer, _encoding, done) {
      sent += chunk.length
      if (length !== undefined && sent > length) return done(wrong())
      count(chunk.length)
      done(null, chunk)
    },
    flush (done) { done(length !== undefined && sent !== length ? wrong() : null) }
  })
}

declare module 'fastify' {
  interface FastifyReply {
    /** Sends an answer's value with the headers that say where it comes from, an ETag, and 304 when the client has it. */
    answer (answer: Answer<object>): FastifyReply
    /** The same for part of a list; with `query` it links to the other parts. */
    answerPage (answer: Answer<Page<object>>, paging?: { query: Record<string, string | number | undefined>, limit: number, offset: number }): FastifyReply
    /** Sends a file as a download; to HEAD its headers only, without opening it. A client that hangs up ends the transfer. */
    answerFile (answer: Answer<Download>): Promise<FastifyReply>
    /** Redirects (302) to the exact version beside the path asked for, keeping the query. */
    answerVersion (answer: Answer<{ version: string }>): FastifyReply
  }
}

/** Reply decorators: the one place where answers become headers. */
async function answers (fastify: FastifyInstance, { stale_if_error_seconds: staleIfError, max_downloads: mostDownloads }: AnswerOptions): Promise<void> {
  const { telemetry } = fastify
  const slots = createDownloadSlots(mostDownloads)
  telemetry.gauge<string>('downloads_active', 'Downloads under way', [], () => [{ labels: {}, value: slots.active() }])

  fastify.decorateReply('answer', function (this: FastifyReply, answer) {
    return sendBody(this.headers(provenance(answer, staleIfError)), answer.value)
  })

  fastify.decorateReply('answerPage', function (this: FastifyReply, answer, paging) {
    const { items, total } = answer.value
    this.headers(provenance(answer, staleIfError)).header('x-total-count', String(total))
    if (paging !== undefined) this.header('link', pageLinks(paging.query, { ...paging, total }))
    return sendBody(this, items)
  })

  fastify.decorateReply('answerVersion', function (this: FastifyReply, answer) {
    const query = this.request.url.indexOf('?')
    const location = encodeURIComponent(answer.value.version) + (query === -1 ? '' : this.request.url.slice(query))
    return this.headers(provenance(answer, staleIfError)).code(302).header('location', location).send()
  })

  fastify.decorateReply('answerFile', async function (this: FastifyReply, answer) {
    const { file, open } = answer.value
    const tell = ({ name, checksum, validator }: FileFacts, length: number | undefined) => {
      if (length !== undefined) this.header('content-length', length)
      return this.headers({
        ...provenance(answer, staleIfError),
        etag: `"${validator}"`,
        'content-type': 'application/octet-stream',
        'content-disposition': contentDisposition(name),
        ...reprDigest(checksum)
      })
    }
    if (notModified(this, `"${file.validator}"`)) return await this.code(304).headers({ ...provenance(answer, staleIfError), etag: `"${file.validator}"` }).send()
    if (this.request.method === 'HEAD') return await tell(file, file.size).send()
    if (!slots.take(this.raw)) {
      telemetry.observeShed('downloads')
      throw registryError('service_unavailable', 'Too many downloads at once')
    }
    const hangUp = new AbortController()
    this.raw.once('close', () => { hangUp.abort() })
    if (this.raw.destroyed) hangUp.abort()
    const { file: opened, stream, length } = await open(hangUp.signal)
    // What breaks on either side ends the other; the reply sees it on its own stream.
    return await tell(opened, length).send(pipeline(stream, measure(length, telemetry.observeBytes), () => {}))
  })
}

export default fp(answers, { name: 'registry-answers', fastify: '5.x', dependencies: ['registry-telemetry'], decorators: { fastify: ['telemetry'] } })
