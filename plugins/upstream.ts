import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import got, { TimeoutError, type Got, type Request, type Response } from 'got'
import pLimit from 'p-limit'
import { registryError, type RegistryError } from './errors.ts'
import type { Secret } from './secret.ts'
import { failureOf, statusError } from './upstream-errors.ts'

/** What is measured of each request to an upstream: `status` is an HTTP status, or `error` when there was none. */
export type UpstreamObserver = (instance: string, status: string, seconds: number) => void

export interface UpstreamDependencies {
  userAgent: string
  observe?: UpstreamObserver
  /** Numbers in [0, 1), for the jitter of retries. */
  random?: () => number
}

export interface UpstreamOptions {
  instance: string
  /** Base address; paths are appended to it. */
  url: string
  /** Value of `Authorization`, sent to `url`'s own origin only. */
  authorization: Secret
  /** Seconds to wait for a connection, for the headers, and between two chunks. */
  timeout: number
  verifySsl: boolean
  caFile?: string
  /** Other hosts (`host` or `host:port`) that may be redirected to, without credentials. */
  redirectHosts: readonly string[]
  /** Most requests under way at once. */
  concurrency: number
}

/** A JSON answer, or why there is none: nothing is there, or it is elsewhere now. */
export type JsonAnswer = { kind: 'found', body: unknown, headers: Response['headers'] } | { kind: 'absent' } | { kind: 'moved' }

/** Bytes of JSON that are read of one answer. */
const jsonBytes = 32 * 1024 * 1024
const mostRedirects = 5
const retries = 2
/** Longest `Retry-After` (milliseconds) that is waited for here rather than passed on. */
const patience = 2000

/** Passes chunks on, and fails when the source is silent for too long while somebody waits for it; a slow reader is not silence. */
async function * limitSilence (source: AsyncIterable<Buffer>, seconds: number, late: () => Error, failure: (error: unknown) => Error): AsyncGenerator<Buffer> {
  const chunks = source[Symbol.asyncIterator]()
  try {
    for (;;) {
      let timer: NodeJS.Timeout | undefined
      const silence = new Promise<never>((_resolve, reject) => { timer = setTimeout(() => reject(late()), seconds * 1000) })
      const next = await Promise.race([chunks.next(), silence]).finally(() => clearTimeout(timer))
      if (next.done === true) return
      yield next.value
    }
  } catch (error) {
    // The client's own errors carry the request with its credentials; none of them leaves this file.
    throw failure(error)
  } finally {
    // Not awaited: a silent source would never answer.
    chunks.return?.().catch(() => {})
  }
}

/** The first of what a request stream tells: its response, or its failure. */
async function responseOf (request: Request): Promise<Response> {
  return await new Promise((resolve, reject) => {
    request.once('response', resolve)
    // Stays attached: a request may fail again after it was given up, and nobody else would listen.
    request.on('error', reject)
  })
}

/**
 * The HTTP client of one instance: nothing else configures HTTP. Every failure it throws is an error of the table, with
 * the instance's name and the cause, and without addresses or secrets in its message.
 */
export function createUpstream ({ userAgent, observe, random = Math.random }: UpstreamDependencies, options: UpstreamOptions) {
  const { instance, timeout } = options
  const base = new URL(options.url.endsWith('/') ? options.url : `${options.url}/`)
  const limit = pLimit(options.concurrency)
  // A download does not queue behind a walk over the whole upstream.
  const opening = pLimit(options.concurrency)
  const agents = { http: new http.Agent({ keepAlive: true }), https: new https.Agent({ keepAlive: true }) }
  const wait = timeout * 1000
  const client: Got = got.extend({
    agent: agents,
    headers: { 'user-agent': userAgent },
    followRedirect: false,
    throwHttpErrors: false,
    timeout: { lookup: wait, connect: wait, secureConnect: wait, response: wait },
    https: {
      rejectUnauthorized: options.verifySsl,
      ...(options.caFile !== undefined && { certificateAuthority: readFileSync(options.caFile) })
    },
    retry: {
      limit: retries,
      methods: ['GET'],
      calculateDelay: ({ computedValue, retryAfter, attemptCount, error }) => {
        // Who was waited for long enough once is not waited for again.
        if (computedValue === 0 || (retryAfter ?? 0) > patience || error instanceof TimeoutError) return 0
        return retryAfter ?? Math.ceil(100 * 2 ** attemptCount * (0.5 + random() / 2))
      }
    }
  })

  async function measured<T extends { statusCode: number }> (request: () => Promise<T>): Promise<T> {
    const started = performance.now()
    const done = (status: string) => observe?.(instance, status, (performance.now() - started) / 1000)
    try {
      const response = await request()
      done(String(response.statusCode))
      return response
    } catch (error) {
      if (!(error instanceof Error && error.name === 'AbortError')) done('error')
      throw failureOf(instance, error)
    }
  }

  async function credentials (target: URL): Promise<Record<string, string>> {
    const authorization = target.origin === base.origin ? await options.authorization() : undefined
    return authorization === undefined ? {} : { authorization }
  }

  function unexpected (details: string, proxyError: string): RegistryError {
    return registryError('service_unavailable', `Instance ${instance} cannot be asked`, { instance, details, proxyError })
  }

  /** An address below the base; every part is encoded, so that nothing in a name can leave its place. */
  function address (parts: readonly string[], query: Record<string, string | number> = {}): URL {
    const url = new URL(parts.map(encodeURIComponent).join('/'), base)
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, String(value))
    return url
  }

  /** Where a redirect may lead; throws when it leads anywhere else. */
  function redirected (from: URL, location: string | undefined): URL {
    const to = location !== undefined && URL.canParse(location, from.href) ? new URL(location, from.href) : undefined
    const allowed = to !== undefined && (to.origin === base.origin ||
      ((to.protocol === 'https:' || to.protocol === base.protocol) && (options.redirectHosts.includes(to.host) || options.redirectHosts.includes(to.hostname))))
    if (to === undefined || !allowed) throw unexpected('Redirect to a host that is not configured', 'destination_ip_prohibited')
    if (to.pathname.endsWith('/user/login')) throw statusError(instance, 401)
    return to
  }

  async function bytes (url: URL, accept: string, most: number, signal?: AbortSignal): Promise<Response<Uint8Array>> {
    const headers = { accept, ...await credentials(url) }
    // What has a deadline of its own, a probe, does not queue either.
    const queue = signal === undefined ? limit : opening
    return await queue(async () => await measured(async () => {
      const tooLarge = new AbortController()
      const signals = signal === undefined ? [tooLarge.signal] : [tooLarge.signal, signal]
      // Uncompressed, so that the bound on bytes is one on memory.
      const request = client(url, { headers: { ...headers, 'accept-encoding': 'identity' }, decompress: false, responseType: 'buffer', signal: AbortSignal.any(signals), timeout: { request: 2 * wait } })
      void request.on('downloadProgress', ({ transferred }) => {
        if (transferred > most) tooLarge.abort(unexpected('Answer is too large', 'http_response_body_size'))
      })
      try {
        return await request
      } catch (error) {
        throw tooLarge.signal.aborted ? tooLarge.signal.reason : error
      }
    }))
  }

  const isRedirect = (status: number) => status >= 300 && status < 400 && status !== 304

  /** Asks an address and those that it redirects to, until one does not; what `ask` gives is discarded when it redirects. */
  async function follow<T extends { statusCode: number, headers: Response['headers'] }> (url: URL, ask: (target: URL) => Promise<T>): Promise<T> {
    let target = url
    for (let hop = 0; hop <= mostRedirects; hop++) {
      const answer = await ask(target)
      if (!isRedirect(answer.statusCode)) return answer
      target = redirected(target, answer.headers.location)
    }
    throw unexpected('Too many redirects', 'http_protocol_error')
  }

  return {
    address,

    /** JSON at an address. Not JSON, or a login page, throws; so does every status but 200, 404 and a permanent redirect. */
    async json (url: URL, signal?: AbortSignal): Promise<JsonAnswer> {
      const { statusCode, headers, body } = await bytes(url, 'application/json', jsonBytes, signal)
      const type = headers['content-type'] ?? ''
      const isJson = /^application\/(?:[\w.+-]+\+)?json\b/i.test(type)
      // Whatever stands before the upstream may say 404 or redirect, too; only the upstream's own word proves anything.
      if (statusCode === 404 && isJson) return { kind: 'absent' }
      if ((statusCode === 301 || statusCode === 307 || statusCode === 308) && redirected(url, headers.location).href.startsWith(`${base.href}api/`)) return { kind: 'moved' }
      if (isRedirect(statusCode)) {
        redirected(url, headers.location)
        throw unexpected('Unexpected redirect', 'http_protocol_error')
      }
      if (statusCode !== 200) throw statusError(instance, statusCode, headers)
      if (/^text\/html\b/i.test(type)) throw statusError(instance, 401)
      if (!isJson) throw unexpected('Answer is not JSON', 'http_protocol_error')
      try {
        return { kind: 'found', body: JSON.parse(Buffer.from(body).toString('utf8')), headers }
      } catch {
        throw unexpected('Answer is not valid JSON', 'http_protocol_error')
      }
    },

    /** A small file, whole; redirects are followed as `open` does. Undefined when it is not there. */
    async file (url: URL, most: number): Promise<Buffer | undefined> {
      const { statusCode, headers, body } = await follow(url, async target => await bytes(target, '*/*', most))
      if (statusCode === 404) return undefined
      if (statusCode !== 200) throw statusError(instance, statusCode, headers)
      // A page instead of the file is what a server shows to those who may not have it.
      if (/^text\/html\b/i.test(headers['content-type'] ?? '')) throw statusError(instance, 401)
      return Buffer.from(body)
    },

    /**
     * Opens a file of any size; redirects are followed where they may lead, without credentials on other origins. The
     * stream errors when the upstream breaks or falls silent. Undefined when it is not there.
     */
    async open (url: URL, signal: AbortSignal): Promise<{ stream: Readable, headers: Response['headers'] } | undefined> {
      const { request, statusCode, headers } = await follow(url, async target => {
        const given = { accept: '*/*', 'accept-encoding': 'identity', ...await credentials(target) }
        return await opening(async () => {
          const request = client.stream(target, { headers: given, signal, decompress: false, retry: { limit: 0 } })
          const { statusCode, headers } = await measured(async () => await responseOf(request))
          if (statusCode !== 200) request.destroy()
          return { request, statusCode, headers }
        })
      })
      if (statusCode === 404) return undefined
      if (statusCode !== 200) throw statusError(instance, statusCode, headers)
      const late = () => unexpected('Answer stopped', 'connection_read_timeout')
      return { stream: Readable.from(limitSilence(request, timeout, late, error => failureOf(instance, error)), { objectMode: false }), headers }
    },

    /** Ends idle connections. */
    close (): void {
      agents.http.destroy()
      agents.https.destroy()
    }
  }
}
export type Upstream = ReturnType<typeof createUpstream>

declare module 'fastify' {
  interface FastifyInstance {
    /** Makes the HTTP client of one instance; it is closed with the server. */
    upstream: (options: UpstreamOptions) => Upstream
  }
}

async function upstream (fastify: FastifyInstance, dependencies: UpstreamDependencies): Promise<void> {
  const clients: Upstream[] = []
  fastify.decorate('upstream', (options: UpstreamOptions) => {
    const client = createUpstream({ observe: fastify.telemetry.observeUpstream, ...dependencies }, options)
    clients.push(client)
    return client
  })
  fastify.addHook('onClose', async () => { clients.forEach(client => { client.close() }) })
}

export default fp(upstream, { name: 'registry-upstream', fastify: '5.x', dependencies: ['registry-telemetry'], decorators: { fastify: ['telemetry'] } })
