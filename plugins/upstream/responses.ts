import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import type { Got, Request, Response } from 'got'
import { isRegistryError } from '../../lib/errors.ts'
import { type Exchange, failureOf, type Queue, type ResponseHead, type UpstreamRequest } from './exchange.ts'
import type { Origin } from './addresses.ts'

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

/**
 * Returns the bytes of a stream as a stream. It fails with the error of `late` when no chunk arrives within `seconds`
 * after a read; time that the reader needs does not count. `failed` translates the errors of the source, because errors
 * of got contain the request with its credentials. The source is destroyed with the result, even if it was never read.
 */
export function limitSilence (
  source: Readable,
  seconds: number,
  late: () => Error,
  failed: (error: unknown) => Error
): Readable {
  let reading = false
  let ended = false
  // One timer for the whole stream: a refresh costs far less than a timer for each chunk.
  let timer: NodeJS.Timeout | undefined

  function begin (): void {
    source.on('data', (chunk: Buffer) => {
      if (result.destroyed) return
      timer?.refresh()
      reading = result.push(chunk)
      if (!reading) source.pause()
    })
    source.once('end', () => {
      ended = true
      clearTimeout(timer)
      result.push(null)
    })
  }

  const result = new Readable({
    read () {
      if (reading) return
      reading = true
      if (timer === undefined) {
        timer = setTimeout(() => { if (reading && !ended) result.destroy(late()) }, seconds * 1000)
        begin()
      } else timer.refresh()
      source.resume()
    },
    destroy (error, done) {
      clearTimeout(timer)
      source.destroy()
      done(error)
    }
  })
  source.on('error', error => { result.destroy(failed(error)) })
  source.once('close', () => {
    if (!ended && !result.destroyed) result.destroy(failed(new Error('The connection was closed')))
  })
  return result
}

/** Whether the HTTP parser of this Node.js copies the bytes of a body, as a test checks. */
const isBodyCopied = process.versions.node.startsWith('24.')

/**
 * Frees the memory of the bytes that a connection receives, until the response ends. The parser has copied those of the
 * body by then, and the garbage collector is slow with memory outside its heap: a fast upstream would fill tens of MiB.
 */
function freeReceived (response: Response): void {
  // A response that has ended has no connection any more.
  const socket: Socket | null = response.socket
  if (!isBodyCopied || socket === null) return
  // Listeners are called in order, and that of the parser of this response is the first.
  const free = ({ buffer, byteLength }: Buffer) => {
    if (buffer instanceof ArrayBuffer && byteLength > 0 && buffer.byteLength === byteLength) buffer.transfer(0)
  }
  const stop = () => { socket.off('data', free) }
  socket.on('data', free)
  // The connection is free for the next request as soon as the response ends, and before its bytes are read. The parser
  // of the next response would come after this listener.
  response.once('end', stop)
  response.once('close', stop)
}

/** Returns the response of a request stream. Throws its error. */
async function responseOf (request: Request): Promise<Response> {
  return await new Promise((resolve, reject) => {
    request.once('response', resolve)
    // The listener stays attached, because a request may fail again after it was aborted. An error without a listener
    // would end the process.
    request.on('error', reject)
  })
}

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
    const response = await responseOf(request)
    freeReceived(response)
    const { statusCode, headers: received } = response
    return { request, statusCode, headers: received }
  }

  /** Returns the body of a request. Its connection is closed even if the body is never read. */
  function bodyOf (request: Request): Readable {
    const silent = () => origin.unexpected('Response stopped', 'connection_read_timeout')
    return limitSilence(request, timeout, silent, error => failureOf(instance, error))
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
