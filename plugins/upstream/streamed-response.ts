import { Readable } from 'node:stream'
import type { Got, Request } from 'got'
import { isRegistryError } from '../../lib/errors.ts'
import type { Exchange } from './exchange.ts'
import { failureOf } from './failure.ts'
import type { Queue } from './limits.ts'
import type { ResponseHead, UpstreamRequest } from './messages.ts'
import type { Origin } from './origin.ts'
import { limitSilence, responseOf } from './stream.ts'

export interface StreamedResponsesOptions {
  instance: string
  client: Got
  exchange: Exchange
  origin: Origin
  queue: Queue
  closed: AbortSignal
  /** Maximum seconds between two chunks. */
  timeout: number
}

export type StreamRequest = UpstreamRequest & { signal: AbortSignal }

/**
 * Response of one address, which may be a redirect. `body` is absent unless the status is 200, or 206 for an offset.
 */
export type StreamedResponse = ResponseHead & { body?: () => Readable }

/**
 * Creates the function that opens one response, which may be a redirect. Its `body` fails when the connection breaks or
 * no data arrives. `start` is the first address of the request, before redirects.
 */
export function createStreamedResponses (
  { instance, client, exchange, origin, queue, closed, timeout }: StreamedResponsesOptions
) {
  async function send (url: URL, headers: Record<string, string>, signal: AbortSignal) {
    // The stream starts on its own and may fail immediately, so it is created just before its listeners are attached.
    const request = client.stream(url, {
      dnsLookup: origin.lookupOf(url),
      headers,
      signal: AbortSignal.any([closed, signal]),
      decompress: false,
      retry: { limit: 0 }
    })
    const { statusCode, headers: received } = await responseOf(request)
    return { request, statusCode, headers: received }
  }

  /** Returns the body of a request. Its connection is closed even if the body is never read. */
  function bodyOf (request: Request): Readable {
    const silent = () => origin.unexpected('Response stopped', 'connection_read_timeout')
    const body = Readable.from(limitSilence(request, timeout, silent, error => failureOf(instance, error)), {
      objectMode: false
    })
    // A generator that was never started does not run `finally`.
    body.once('close', () => { request.destroy() })
    return body
  }

  return async (
    url: URL,
    { signal, offset = 0, authorization }: StreamRequest,
    start = url
  ): Promise<StreamedResponse> => {
    const headers = {
      accept: '*/*',
      'accept-encoding': 'identity',
      ...(offset > 0 && { range: `bytes=${offset}-` }),
      ...await origin.credentials(url, start, authorization)
    }
    const attempt = async () => await exchange.send(async () => await send(url, headers, signal))
    return await queue(async () => {
      // A connection with keep-alive may close at the moment of its reuse. Only this failure is retried here.
      const { request, ...head } = await attempt().catch(async (error: unknown) => {
        const isRetried = !signal.aborted && isRegistryError(error) && error.proxyError === 'connection_terminated' &&
          exchange.takeRetry()
        if (!isRetried) throw error
        return await attempt()
      })
      if (head.statusCode === 200 || (head.statusCode === 206 && offset > 0)) {
        return { ...head, body: () => bodyOf(request) }
      }
      request.destroy()
      return head
    })
  }
}
export type StreamedResponses = ReturnType<typeof createStreamedResponses>
