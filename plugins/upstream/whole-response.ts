import type { Got, Response } from 'got'
import type { Exchange } from './exchange.ts'
import type { Queue } from './limits.ts'
import type { UpstreamRequest } from './messages.ts'
import type { Origin } from './origin.ts'

export interface WholeResponsesOptions {
  client: Got
  exchange: Exchange
  origin: Origin
  /** Queue of the requests of a crawl. */
  queue: Queue
  urgentQueue: Queue
  closed: AbortSignal
  timeoutMs: number
}

/**
 * Creates the function that reads one response, which may be a redirect, with a maximum of `maxBytes` bytes. `start` is
 * the first address of the request, before redirects.
 */
export function createWholeResponses (
  { client, exchange, origin, queue, urgentQueue, closed, timeoutMs }: WholeResponsesOptions
) {
  return async (
    url: URL,
    maxBytes: number,
    { method = 'GET', accept = '*/*', authorization, signal, urgent = signal !== undefined }: UpstreamRequest,
    start = url
  ): Promise<Response<Uint8Array>> => {
    const headers = { accept, ...await origin.credentials(url, start, authorization) }

    async function read (): Promise<Response<Uint8Array>> {
      const tooLarge = new AbortController()
      // The response is not compressed, so that the limit on bytes also limits memory.
      const request = client(url, {
        method,
        dnsLookup: origin.lookupOf(url),
        headers: { ...headers, 'accept-encoding': 'identity' },
        decompress: false,
        responseType: 'buffer',
        signal: AbortSignal.any([closed, tooLarge.signal, ...(signal === undefined ? [] : [signal])]),
        timeout: { request: 2 * timeoutMs }
      })
      void request.on('downloadProgress', ({ transferred }) => {
        if (transferred > maxBytes) {
          tooLarge.abort(origin.unexpected('Response is too large', 'http_response_body_size'))
        }
      })
      try {
        return await request
      } catch (error) {
        throw tooLarge.signal.aborted ? tooLarge.signal.reason : error
      }
    }

    return await (urgent ? urgentQueue : queue)(async () => await exchange.send(read))
  }
}
export type WholeResponses = ReturnType<typeof createWholeResponses>
