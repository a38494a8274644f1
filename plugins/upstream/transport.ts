import { lookup } from 'node:dns'
import { Readable } from 'node:stream'
import type { FastifyBaseLogger } from 'fastify'
import got, { TimeoutError, type Got, type Response } from 'got'
import { isRegistryError, registryError, type RegistryError } from '../../lib/errors.ts'
import type { Secret } from '../../lib/secret.ts'
import { createGate, isPublic, pathBelow, type Guard, type Resolver } from './addresses.ts'
import { createAgents, type ProxyEnvironment } from './agents.ts'
import { parseJson } from '../../lib/json.ts'
import { retryAfterSeconds, statusError } from './errors.ts'
import { failureOf } from './failure.ts'
import { createPause, createQueue, createRetryBudget, maxWaitMs } from './limits.ts'
import { createRedirects } from './redirects.ts'
import { limitSilence, responseOf } from './stream.ts'

/** What is measured of each request to an upstream: `status` is an HTTP status, or `error` when there was none. */
export type UpstreamObserver = (instance: string, status: string, seconds: number) => void

export interface UpstreamDependencies {
  userAgent: string
  observe?: UpstreamObserver
  /** Numbers in [0, 1), for the jitter of retries. */
  random?: () => number
  /** Whose proxy variables count; the process's own if unset. */
  environment?: ProxyEnvironment
  /**
   * Which addresses may be connected to on hosts that the operator has not named; those of the open internet if unset.
   */
  guard?: Guard
  /** `dns.lookup` if unset. */
  resolver?: Resolver
  /** Milliseconds of a clock that only goes forward, for the pauses that upstreams ask for. */
  clock?: () => number
  /** Receives the lines about redirects that are refused and about a `ca_file` that changes. */
  log?: Pick<FastifyBaseLogger, 'info' | 'warn' | 'error'>
}

export interface UpstreamOptions {
  instance: string
  /** Base address; paths are appended to it. */
  url: string
  /** The key of the configuration that has the address, for messages: `gitea.url`. */
  addressKey?: string
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
  /** Most requests that wait for their turn; 1000 if unset. */
  waiting?: number
}

/** How an address is asked. */
export interface UpstreamRequest {
  /** GET if unset. */
  method?: 'GET' | 'HEAD'
  accept?: string
  /** Sent instead of the instance's own, to the origin that is asked and to no other that it redirects to. */
  authorization?: string
  signal?: AbortSignal
  /** First byte that is wanted of a file; an upstream may answer with the whole (200) all the same. */
  offset?: number
  /** Passes the queue of a walk, as what has a signal does: others wait for it. */
  urgent?: boolean
}

/** An answer of any status but a redirect, from where it came. */
export interface UpstreamResponse {
  url: URL
  status: number
  headers: Response['headers']
}

/** Whether an answer says that it is JSON. */
export const isJson = (headers: Response['headers']): boolean =>
  /^application\/(?:[\w.+-]+\+)?json\b/i.test(headers['content-type'] ?? '')

const maxRedirects = 5
const retries = 2

/**
 * The HTTP client of one instance: nothing else configures HTTP. Every failure it throws is an error of the table, with
 * the instance's name and the cause, and without addresses or secrets in its message.
 */
export function createUpstreamTransport (
  {
    userAgent,
    observe,
    random = Math.random,
    environment = process.env,
    guard = isPublic,
    resolver = lookup,
    clock = () => performance.now(),
    log
  }: UpstreamDependencies,
  options: UpstreamOptions
) {
  const { instance, timeout } = options
  const base = new URL(options.url.endsWith('/') ? options.url : `${options.url}/`)
  const waiting = createQueue(options)
  // A download does not queue behind a walk over the whole upstream.
  const opening = createQueue(options)
  const retryBudget = createRetryBudget()
  const pause = createPause(clock)
  const agents = createAgents(environment, { ...options, ...(log && { log }) })
  const closed = new AbortController()
  const redirected = createRedirects({
    instance,
    base,
    redirectHosts: options.redirectHosts,
    addressKey: options.addressKey ?? 'its address',
    ...(log && { log })
  })
  const findHost = createGate({
    guard,
    resolver,
    named: [base.host, ...options.redirectHosts, ...options.namedHosts ?? []]
  })
  const wait = timeout * 1000
  const client: Got = got.extend({
    headers: { 'user-agent': userAgent },
    followRedirect: false,
    throwHttpErrors: false,
    timeout: { lookup: wait, connect: wait, secureConnect: wait, response: wait },
    https: { rejectUnauthorized: options.verifySsl },
    hooks: {
      // Before each attempt: the file of certificates may have changed since the one before.
      beforeRequest: [async request => {
        if (request.url !== undefined) request.agent = await agents.of(new URL(request.url))
      }]
    },
    retry: {
      limit: retries,
      methods: ['GET', 'HEAD'],
      calculateDelay: ({ computedValue, retryAfter, attemptCount, error }) => {
        // Who was waited for long enough once is not waited for again.
        if (
          computedValue === 0 || (retryAfter ?? 0) > maxWaitMs || error instanceof TimeoutError || !retryBudget.take()
        ) { return 0 }
        if (retryAfter !== undefined && error.response !== undefined) heed(error.response)
        return retryAfter ?? Math.ceil(100 * 2 ** attemptCount * (0.5 + random() / 2))
      }
    }
  })

  /** What a `Retry-After` says holds for everybody. */
  function heed ({ statusCode, headers }: Pick<Response, 'statusCode' | 'headers'>): void {
    const seconds = statusCode === 429 || statusCode === 503 ? retryAfterSeconds(headers['retry-after']) : undefined
    if (seconds !== undefined) {
      pause.begin(seconds, left =>
        statusError(instance, statusCode, { 'retry-after': String(Math.ceil(left)) }))
    }
  }

  async function measured<T extends Pick<Response, 'statusCode' | 'headers'>> (request: () => Promise<T>): Promise<T> {
    await pause.over()
    retryBudget.asked()
    const started = performance.now()
    const done = (status: string) => observe?.(instance, status, (performance.now() - started) / 1000)
    try {
      const response = await request()
      done(String(response.statusCode))
      heed(response)
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
    return registryError('service_unavailable', `Instance ${instance} cannot be asked`, {
      instance,
      details,
      proxyError
    })
  }

  /** How the host of an address is found. Throws for an address that may not be connected to. */
  function lookupOf (url: URL) {
    const found = findHost(url)
    if (found === undefined) {
      throw unexpected('Host is on an inner network and not configured', 'destination_ip_prohibited')
    }
    return found
  }

  /** An address below the base. */
  function address (parts: readonly string[], query: Record<string, string | number> = {}): URL {
    const url = pathBelow(base, parts)
    if (url === undefined) throw unexpected('A name cannot stand in an address', 'http_protocol_error')
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, String(value))
    return url
  }

  async function bytes (
    url: URL,
    maxBytes: number,
    { method = 'GET', accept = '*/*', authorization, signal, urgent = signal !== undefined }: UpstreamRequest,
    start = url
  ): Promise<Response<Uint8Array>> {
    const headers = { accept, ...await credentials(url, start, authorization) }
    // What has a deadline of its own, a probe, does not queue behind a walk either.
    const queue = urgent ? opening : waiting
    return await queue(async () =>
      await measured(async () => {
        const tooLarge = new AbortController()
        const signals = [closed.signal, tooLarge.signal, ...(signal === undefined ? [] : [signal])]
        // Uncompressed, so that the bound on bytes is one on memory.
        const request = client(url, {
          method,
          dnsLookup: lookupOf(url),
          headers: { ...headers, 'accept-encoding': 'identity' },
          decompress: false,
          responseType: 'buffer',
          signal: AbortSignal.any(signals),
          timeout: { request: 2 * wait }
        })
        void request.on('downloadProgress', ({ transferred }) => {
          if (transferred > maxBytes) tooLarge.abort(unexpected('Answer is too large', 'http_response_body_size'))
        })
        try {
          return await request
        } catch (error) {
          throw tooLarge.signal.aborted ? tooLarge.signal.reason : error
        }
      })
    )
  }

  const isRedirect = (status: number) => status >= 300 && status < 400 && status !== 304

  /**
   * Asks an address and those that it redirects to, until one does not; what `ask` gives is discarded when it
   * redirects.
   */
  async function follow<T extends { statusCode: number, headers: Response['headers'] }> (
    start: URL,
    request: (target: URL) => Promise<T>
  ): Promise<T & { url: URL }> {
    let url = start
    for (let hop = 0; hop <= maxRedirects; hop++) {
      const answer = await request(url)
      if (!isRedirect(answer.statusCode)) return { ...answer, url }
      url = redirected(url, answer.headers.location)
    }
    throw unexpected('Too many redirects', 'http_protocol_error')
  }

  /** The body of an answer that must be JSON by its type and its form. */
  function parse (headers: Response['headers'], body: Uint8Array): unknown {
    if (!isJson(headers)) throw unexpected('Answer is not JSON', 'http_protocol_error')
    if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
      throw unexpected('Answer is compressed, which was not asked for', 'http_response_content_coding')
    }
    try {
      return parseJson(body)
    } catch {
      throw unexpected('Answer is not valid JSON', 'http_protocol_error')
    }
  }

  return {
    /** Address that every other one is below. */
    base,
    /** Origin that the instance's credentials are bound to. */
    origin: base.origin,
    address,
    unexpected,
    parse,

    /** The whole answer of an address, of any status, at most `most` bytes; redirects are followed as `stream` does. */
    async request (
      start: URL,
      maxBytes: number,
      question: UpstreamRequest = {}
    ): Promise<UpstreamResponse & { body: Buffer }> {
      const { url, statusCode, headers, body } = await follow(start, async target => {
        const { statusCode, headers, body } = await bytes(target, maxBytes, question, start)
        return { statusCode, headers, body }
      })
      return { url, status: statusCode, headers, body: Buffer.from(body) }
    },

    /**
     * Opens a file of any size; redirects are followed where they may lead, without credentials on other origins. The
     * stream errors when the upstream breaks or falls silent; it is absent unless the status is 200, or 206 for an
     * offset.
     */
    async stream (
      start: URL,
      question: UpstreamRequest & { signal: AbortSignal }
    ): Promise<UpstreamResponse & { stream?: Readable }> {
      const { offset = 0 } = question
      const range = offset > 0 ? { range: `bytes=${offset}-` } : {}
      const hasBody = (status: number) => status === 200 || (status === 206 && offset > 0)
      const { url, request, statusCode, headers } = await follow(start, async target => {
        const given = {
          accept: '*/*',
          'accept-encoding': 'identity',
          ...range,
          ...await credentials(target, start, question.authorization)
        }
        return await opening(async () => {
          const once = async () =>
            await measured(async () => {
              // Not a moment before somebody listens to it: it begins by itself, and may fail at once.
              const request = client.stream(target, {
                dnsLookup: lookupOf(target),
                headers: given,
                signal: AbortSignal.any([closed.signal, question.signal]),
                decompress: false,
                retry: { limit: 0 }
              })
              const { statusCode, headers } = await responseOf(request)
              return { request, statusCode, headers }
            })
          // A connection that was kept may end just as it is used again, which says nothing of the file.
          const answer = await once().catch(async (error: unknown) => {
            if (
              question.signal.aborted || !isRegistryError(error) || error.proxyError !== 'connection_terminated' ||
              !retryBudget.take()
            ) throw error
            return await once()
          })
          if (!hasBody(answer.statusCode)) answer.request.destroy()
          return answer
        })
      })
      const answer = { url, status: statusCode, headers }
      if (!hasBody(statusCode)) return answer
      const late = () => unexpected('Answer stopped', 'connection_read_timeout')
      const body = Readable.from(limitSilence(request, timeout, late, error => failureOf(instance, error)), {
        objectMode: false
      })
      // A generator that was never begun ends nothing: what nobody reads would keep its connection.
      body.once('close', () => {
        request.destroy()
      })
      return { ...answer, stream: body }
    },

    /** The answer of one address, redirects too, at most `most` bytes. */
    bytes,
    redirected,
    isRedirect,
    /** Ends everything that is under way or waits, and its connections. */
    close (): void {
      closed.abort()
      agents.close()
    }
  }
}
export type UpstreamTransport = ReturnType<typeof createUpstreamTransport>
