import { lookup } from 'node:dns'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import got, { TimeoutError, type Got, type Response } from 'got'
import pLimit from 'p-limit'
import { registryError, type RegistryError } from './errors.ts'
import type { Secret } from './secret.ts'
import { createGate, isPublic, namesHost, pathBelow, type Guard, type Resolver } from './upstream-addresses.ts'
import { createAgents, type ProxyEnvironment } from './upstream-agents.ts'
import { failureOf, statusError } from './upstream-errors.ts'
import { limitSilence, responseOf } from './upstream-stream.ts'

/** What is measured of each request to an upstream: `status` is an HTTP status, or `error` when there was none. */
export type UpstreamObserver = (instance: string, status: string, seconds: number) => void

export interface UpstreamDependencies {
  userAgent: string
  observe?: UpstreamObserver
  /** Numbers in [0, 1), for the jitter of retries. */
  random?: () => number
  /** Whose proxy variables count; the process's own if unset. */
  environment?: ProxyEnvironment
  /** Which addresses may be connected to on hosts that the operator has not named; those of the open internet if unset. */
  guard?: Guard
  /** `dns.lookup` if unset. */
  resolver?: Resolver
}

export interface UpstreamOptions {
  instance: string
  /** Base address; paths are appended to it. */
  url: string
  /** Value of `Authorization`, sent to `url`'s own origin only; absent where each question has its own. */
  authorization?: Secret
  /** Seconds to wait for a connection, for the headers, and between two chunks. */
  timeout: number
  verifySsl: boolean
  caFile?: string
  /** Other hosts (`host` or `host:port`) that may be redirected to, without credentials. */
  redirectHosts: readonly string[]
  /** Hosts that the operator has named beside `url` and those: they may be on any network. */
  namedHosts?: readonly string[]
  /** Most requests under way at once. */
  concurrency: number
}

/** A JSON answer, or why there is none: nothing is there, or it is elsewhere now. */
export type JsonAnswer = { kind: 'found', body: unknown, headers: Response['headers'] } | { kind: 'absent' } | { kind: 'moved' }

/** How an address is asked. */
export interface Question {
  /** GET if unset. */
  method?: 'GET' | 'HEAD'
  accept?: string
  /** Sent instead of the instance's own, to the origin that is asked and to no other that it redirects to. */
  authorization?: string
  signal?: AbortSignal
  /** Passes the queue of a walk, as what has a signal does: others wait for it. */
  urgent?: boolean
}

/** An answer of any status but a redirect, from where it came. */
export interface UpstreamAnswer {
  url: URL
  status: number
  headers: Response['headers']
}

/** Whether an answer says that it is JSON. */
export const isJson = (headers: Response['headers']): boolean => /^application\/(?:[\w.+-]+\+)?json\b/i.test(headers['content-type'] ?? '')

/** Bytes of JSON that are read of one answer. */
const jsonBytes = 32 * 1024 * 1024
const mostRedirects = 5
const retries = 2
/** Longest `Retry-After` (milliseconds) that is waited for here rather than passed on. */
const patience = 2000

/**
 * The HTTP client of one instance: nothing else configures HTTP. Every failure it throws is an error of the table, with
 * the instance's name and the cause, and without addresses or secrets in its message.
 */
export function createUpstream ({ userAgent, observe, random = Math.random, environment = process.env, guard = isPublic, resolver = lookup }: UpstreamDependencies, options: UpstreamOptions) {
  const { instance, timeout } = options
  const base = new URL(options.url.endsWith('/') ? options.url : `${options.url}/`)
  const limit = pLimit(options.concurrency)
  // A download does not queue behind a walk over the whole upstream.
  const opening = pLimit(options.concurrency)
  const { agents, https, close } = createAgents(environment, options)
  const findHost = createGate({ guard, resolver, named: [base.host, ...options.redirectHosts, ...options.namedHosts ?? []] })
  const wait = timeout * 1000
  const client: Got = got.extend({
    agent: agents,
    headers: { 'user-agent': userAgent },
    followRedirect: false,
    throwHttpErrors: false,
    timeout: { lookup: wait, connect: wait, secureConnect: wait, response: wait },
    https,
    retry: {
      limit: retries,
      methods: ['GET', 'HEAD'],
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

  /** The credentials for one address: those of the question where it began, else the instance's own. */
  async function credentials (target: URL, start: URL, given: string | undefined): Promise<Record<string, string>> {
    const own = given === undefined ? base : start
    const authorization = target.origin === own.origin ? given ?? await options.authorization?.() : undefined
    return authorization === undefined ? {} : { authorization }
  }

  function unexpected (details: string, proxyError: string): RegistryError {
    return registryError('service_unavailable', `Instance ${instance} cannot be asked`, { instance, details, proxyError })
  }

  /** How the host of an address is found. Throws for an address that may not be connected to. */
  function lookupOf (url: URL) {
    const found = findHost(url)
    if (found === undefined) throw unexpected('Host is on an inner network and not configured', 'destination_ip_prohibited')
    return found
  }

  /** An address below the base. */
  function address (parts: readonly string[], query: Record<string, string | number> = {}): URL {
    const url = pathBelow(base, parts)
    if (url === undefined) throw unexpected('A name cannot stand in an address', 'http_protocol_error')
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, String(value))
    return url
  }

  /** Where a redirect may lead; throws when it leads anywhere else. */
  function redirected (from: URL, location: string | undefined): URL {
    const to = location !== undefined && URL.canParse(location, from.href) ? new URL(location, from.href) : undefined
    // User information would become credentials that nobody configured.
    const allowed = to !== undefined && to.username === '' && to.password === '' && (to.origin === base.origin ||
      ((to.protocol === 'https:' || to.protocol === base.protocol) && namesHost(options.redirectHosts, to)))
    if (to === undefined || !allowed) throw unexpected('Redirect to a host that is not configured', 'destination_ip_prohibited')
    if (to.pathname.endsWith('/user/login')) throw statusError(instance, 401)
    return to
  }

  async function bytes (url: URL, most: number, { method = 'GET', accept = '*/*', authorization, signal, urgent = signal !== undefined }: Question, start = url): Promise<Response<Uint8Array>> {
    const headers = { accept, ...await credentials(url, start, authorization) }
    // What has a deadline of its own, a probe, does not queue behind a walk either.
    const queue = urgent ? opening : limit
    return await queue(async () => await measured(async () => {
      const tooLarge = new AbortController()
      const signals = signal === undefined ? [tooLarge.signal] : [tooLarge.signal, signal]
      // Uncompressed, so that the bound on bytes is one on memory.
      const request = client(url, { method, dnsLookup: lookupOf(url), headers: { ...headers, 'accept-encoding': 'identity' }, decompress: false, responseType: 'buffer', signal: AbortSignal.any(signals), timeout: { request: 2 * wait } })
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
  async function follow<T extends { statusCode: number, headers: Response['headers'] }> (start: URL, ask: (target: URL) => Promise<T>): Promise<T & { url: URL }> {
    let url = start
    for (let hop = 0; hop <= mostRedirects; hop++) {
      const answer = await ask(url)
      if (!isRedirect(answer.statusCode)) return { ...answer, url }
      url = redirected(url, answer.headers.location)
    }
    throw unexpected('Too many redirects', 'http_protocol_error')
  }

  /** The body of an answer that must be JSON by its type and its form. */
  function parse (headers: Response['headers'], body: Uint8Array): unknown {
    if (!isJson(headers)) throw unexpected('Answer is not JSON', 'http_protocol_error')
    try {
      return JSON.parse(Buffer.from(body).toString('utf8'))
    } catch {
      throw unexpected('Answer is not valid JSON', 'http_protocol_error')
    }
  }

  return {
    /** Origin that the instance's credentials are bound to. */
    origin: base.origin,
    address,
    unexpected,
    parse,

    /** The whole answer of an address, of any status, at most `most` bytes; redirects are followed as `stream` does. */
    async ask (start: URL, most: number, question: Question = {}): Promise<UpstreamAnswer & { body: Buffer }> {
      const { url, statusCode, headers, body } = await follow(start, async target => {
        const { statusCode, headers, body } = await bytes(target, most, question, start)
        return { statusCode, headers, body }
      })
      return { url, status: statusCode, headers, body: Buffer.from(body) }
    },

    /**
     * Opens a file of any size; redirects are followed where they may lead, without credentials on other origins. The
     * stream errors when the upstream breaks or falls silent; it is absent unless the status is 200.
     */
    async stream (start: URL, question: Question & { signal: AbortSignal }): Promise<UpstreamAnswer & { stream?: Readable }> {
      const { url, request, statusCode, headers } = await follow(start, async target => {
        const given = { accept: '*/*', 'accept-encoding': 'identity', ...await credentials(target, start, question.authorization) }
        return await opening(async () => {
          const request = client.stream(target, { dnsLookup: lookupOf(target), headers: given, signal: question.signal, decompress: false, retry: { limit: 0 } })
          const { statusCode, headers } = await measured(async () => await responseOf(request))
          if (statusCode !== 200) request.destroy()
          return { request, statusCode, headers }
        })
      })
      const answer = { url, status: statusCode, headers }
      if (statusCode !== 200) return answer
      const late = () => unexpected('Answer stopped', 'connection_read_timeout')
      const body = Readable.from(limitSilence(request, timeout, late, error => failureOf(instance, error)), { objectMode: false })
      // A generator that was never begun ends nothing: what nobody reads would keep its connection.
      body.once('close', () => { request.destroy() })
      return { ...answer, stream: body }
    },

    /** JSON at an address. Not JSON, or a login page, throws; so does every status but 200, 404 and a permanent redirect. */
    async json (url: URL, signal?: AbortSignal): Promise<JsonAnswer> {
      const { statusCode, headers, body } = await bytes(url, jsonBytes, { accept: 'application/json', ...(signal !== undefined && { signal }) })
      // Whatever stands before the upstream may say 404 or redirect, too; only the upstream's own word proves anything.
      if (statusCode === 404 && isJson(headers)) return { kind: 'absent' }
      if ((statusCode === 301 || statusCode === 307 || statusCode === 308) && redirected(url, headers.location).href.startsWith(`${base.href}api/`)) return { kind: 'moved' }
      if (isRedirect(statusCode)) {
        redirected(url, headers.location)
        throw unexpected('Unexpected redirect', 'http_protocol_error')
      }
      if (statusCode !== 200) throw statusError(instance, statusCode, headers)
      if (/^text\/html\b/i.test(headers['content-type'] ?? '')) throw statusError(instance, 401)
      return { kind: 'found', body: parse(headers, body), headers }
    },

    /** A small file, whole; undefined when it is not there. Every status but 200 and 404 throws. */
    async file (url: URL, most: number): Promise<Buffer | undefined> {
      const { status, headers, body } = await this.ask(url, most)
      if (status === 404) return undefined
      if (status !== 200) throw statusError(instance, status, headers)
      // A page instead of the file is what a server shows to those who may not have it.
      if (/^text\/html\b/i.test(headers['content-type'] ?? '')) throw statusError(instance, 401)
      return body
    },

    /** Opens a file as `stream` does; undefined when it is not there. Every status but 200 and 404 throws. */
    async open (url: URL, signal: AbortSignal): Promise<{ stream: Readable, headers: Response['headers'] } | undefined> {
      const { status, headers, stream } = await this.stream(url, { signal })
      if (status === 404) return undefined
      if (stream === undefined) throw statusError(instance, status, headers)
      return { stream, headers }
    },

    close
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
