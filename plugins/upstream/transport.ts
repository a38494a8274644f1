import type { FastifyBaseLogger } from 'fastify'
import got, { type Got, type RetryFunction } from 'got'
import { createOrigin, type HostDependencies, type OriginOptions } from './addresses.ts'
import { createAgents } from './agents.ts'
import {
  createExchange,
  createQueue,
  type StreamResponse,
  type UpstreamObserver,
  type UpstreamRequest,
  type UpstreamResponse
} from './exchange.ts'
import type { ProxyEnvironment } from './proxies.ts'
import { createRedirects, followRedirects } from './redirects.ts'
import { createStreamedResponses, createWholeResponses, type StreamRequest } from './responses.ts'

export interface UpstreamDependencies extends HostDependencies {
  userAgent: string
  observe?: UpstreamObserver
  /** Returns numbers in [0, 1) for the jitter of retries. */
  random?: () => number
  /** Environment with the proxy variables; that of the process if unset. */
  environment?: ProxyEnvironment
  /** Returns the milliseconds of a monotonic clock, for the pauses of a `Retry-After`. */
  clock?: () => number
  /** Logger for refused redirects and for changes of `ca_file`. */
  log?: Pick<FastifyBaseLogger, 'info' | 'warn' | 'error'>
}

export interface UpstreamOptions extends OriginOptions {
  /** Key of the configuration with the address, for messages: `gitea.url`. */
  addressKey?: string
  /** Maximum seconds for a connection, for the headers, and between two chunks. */
  timeout: number
  verifySsl: boolean
  caFile?: string
  /** Maximum number of requests in progress. */
  concurrency: number
  /** Maximum number of requests in the queue; 1000 if unset. */
  waiting?: number
}

/** Maximum number of retries of one request. */
const maxRetries = 2

interface HttpClientOptions {
  userAgent: string
  agents: ReturnType<typeof createAgents>
  /** Maximum time in milliseconds for each phase up to the headers of the response. */
  timeoutMs: number
  verifySsl: boolean
  retryDelay: RetryFunction
}

/** Creates the got client of one instance. HTTP is not configured anywhere else. */
function createHttpClient ({ userAgent, agents, timeoutMs, verifySsl, retryDelay }: HttpClientOptions): Got {
  return got.extend({
    headers: { 'user-agent': userAgent },
    followRedirect: false,
    throwHttpErrors: false,
    timeout: { lookup: timeoutMs, connect: timeoutMs, secureConnect: timeoutMs, response: timeoutMs },
    https: { rejectUnauthorized: verifySsl },
    hooks: {
      // Agents are chosen before each attempt, because the file of certificates may have changed since the previous
      // one.
      beforeRequest: [async request => {
        if (request.url !== undefined) request.agent = await agents.of(new URL(request.url))
      }]
    },
    retry: { limit: maxRetries, methods: ['GET', 'HEAD'], calculateDelay: retryDelay }
  })
}

/**
 * Creates the HTTP transport of one instance. Each of its errors is a `RegistryError` with the instance and the cause,
 * and its message contains neither addresses nor secrets.
 */
export function createUpstreamTransport (
  {
    userAgent,
    observe,
    random = Math.random,
    environment = process.env,
    clock = () => performance.now(),
    log,
    ...lookups
  }: UpstreamDependencies,
  options: UpstreamOptions
) {
  const { instance, timeout } = options
  const timeoutMs = timeout * 1000
  const closing = new AbortController()
  const origin = createOrigin(lookups, options)
  const { base, address, unexpected } = origin
  const exchange = createExchange({ instance, observe, random, clock })
  const agents = createAgents(environment, { ...options, ...(log && { log }) })
  const client = createHttpClient({ ...options, userAgent, agents, timeoutMs, retryDelay: exchange.retryDelay })
  const redirected = createRedirects({
    instance,
    base,
    redirectHosts: options.redirectHosts,
    addressKey: options.addressKey ?? 'its address',
    ...(log && { log })
  })

  const queue = createQueue(options)
  // Downloads, and requests with their own time limit such as probes, do not wait for the requests of a crawl.
  const urgentQueue = createQueue(options)
  const shared = { client, exchange, origin, closed: closing.signal }
  const bytes = createWholeResponses({ ...shared, queue, urgentQueue, timeoutMs })
  const openStream = createStreamedResponses({ ...shared, instance, queue: urgentQueue, timeout })

  /**
   * Returns the whole response of an address, with any status and a maximum of `maxBytes` bytes. Redirects are followed
   * as by `stream`.
   */
  async function request (
    start: URL,
    maxBytes: number,
    given: UpstreamRequest = {}
  ): Promise<UpstreamResponse & { body: Buffer }> {
    const { url, response } = await followRedirects(
      start,
      redirected,
      async target => await bytes(target, maxBytes, given, start),
      unexpected
    )
    const { statusCode: status, headers, body } = response
    return { url, status, headers, body: Buffer.from(body) }
  }

  /**
   * Opens a file of any size. Redirects are followed to allowed hosts, without credentials on other origins. The stream
   * fails when the connection breaks or no data arrives. It is absent unless the status is 200, or 206 for an offset.
   */
  async function stream (start: URL, given: StreamRequest): Promise<StreamResponse> {
    const { url, response } = await followRedirects(
      start,
      redirected,
      async target => await openStream(target, given, start),
      unexpected
    )
    const { statusCode: status, headers, body } = response
    return { url, status, headers, ...(body !== undefined && { stream: body() }) }
  }

  return {
    /** Base of all addresses of the instance. */
    base,
    /** Origin to which the credentials of the instance are sent. */
    origin: base.origin,
    address,
    unexpected,
    /** Reads the response of one address, which may be a redirect, with a maximum of `maxBytes` bytes. */
    bytes,
    redirected,
    request,
    stream,
    /** Aborts all requests, in progress or in the queue, and closes their connections. */
    close (): void {
      closing.abort()
      agents.close()
    }
  }
}
export type UpstreamTransport = ReturnType<typeof createUpstreamTransport>
