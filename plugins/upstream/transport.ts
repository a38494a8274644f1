import { createAgents } from './agents.ts'
import { createExchange } from './exchange.ts'
import { createHttpClient } from './http-client.ts'
import { createQueue } from './limits.ts'
import type { StreamResponse, UpstreamRequest, UpstreamResponse } from './messages.ts'
import type { UpstreamDependencies, UpstreamOptions } from './options.ts'
import { createOrigin } from './origin.ts'
import { createRedirects, followRedirects } from './redirects.ts'
import { createStreamedResponses, type StreamRequest } from './streamed-response.ts'
import { createWholeResponses } from './whole-response.ts'

/**
 * Creates the HTTP transport of one instance. Every error that it throws is a `RegistryError` with the instance's name
 * and the cause, and without addresses or secrets in its message.
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
  // Downloads, and requests with a time limit of their own such as probes, do not wait for those of a crawl.
  const urgentQueue = createQueue(options)
  const shared = { client, exchange, origin, closed: closing.signal }
  const bytes = createWholeResponses({ ...shared, queue, urgentQueue, timeoutMs })
  const openStream = createStreamedResponses({ ...shared, instance, queue: urgentQueue, timeout })

  /**
   * Returns the whole response of an address, of any status, at most `maxBytes` bytes. Redirects are followed as by
   * `stream`.
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
   * fails when the upstream breaks or falls silent. It is absent unless the status is 200, or 206 for an offset.
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
    /** Address that every other one is below. */
    base,
    /** Origin that the instance's credentials are bound to. */
    origin: base.origin,
    address,
    unexpected,
    /** Reads the response of one address, redirects too, at most `maxBytes` bytes. */
    bytes,
    redirected,
    request,
    stream,
    /** Ends every request, in progress or in the queue, and their connections. */
    close (): void {
      closing.abort()
      agents.close()
    }
  }
}
export type UpstreamTransport = ReturnType<typeof createUpstreamTransport>
