import { createServer } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { pipeline, Readable } from 'node:stream'
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

/** A request as it arrived; `path` includes the query, undecoded. */
export interface LoopbackRequest {
  method: string
  path: string
  headers: IncomingHttpHeaders
  /** Body of requests other than GET and HEAD. */
  body?: string
  /**
   * Settles when the exchange ends: `completed` after the whole response, `aborted` after an earlier end of the
   * connection.
   */
  over: Promise<'completed' | 'aborted'>
}

export interface LoopbackResponse {
  status: number
  headers?: OutgoingHttpHeaders
  /** A stream is sent without a length. */
  body?: Buffer | string | Readable
}

/**
 * Fault of one response:
 * - `refuse-reset`: the connection is reset before the first byte of a response
 * - `hang`: no response
 * - `stall`: head and half of the real body, then no further bytes
 * - `truncate`: head and half of the real body, then the connection closes
 * - `reset`: head and half of the real body, then the connection is reset
 * - `drip`: the real response, its body in many small pieces
 * - `endless`: the real body without its length, then endless blanks
 * - a response: replaces the real one
 */
export type FaultAction =
  | 'refuse-reset'
  | 'hang'
  | 'stall'
  | 'truncate'
  | 'reset'
  | 'drip'
  | 'endless'
  | LoopbackResponse

/**
 * Returns the fault of a request before the fake responds; undefined means no fault. A promise delays the response
 * until it settles.
 */
export type Fault = (request: LoopbackRequest) => FaultAction | undefined | Promise<FaultAction | undefined>

export type LoopbackHandler = (request: LoopbackRequest) => LoopbackResponse | Promise<LoopbackResponse>

/** A server on 127.0.0.1. Its functions need no `this`. */
export interface Loopback {
  /** `http://127.0.0.1:{port}`, the same after a stop and a start. */
  readonly url: string
  readonly port: number
  /** All requests since the start, or since `length = 0` was set. */
  readonly requests: LoopbackRequest[]
  /** Number of connections that were ever accepted. */
  readonly connections: number
  /** Number of open connections. */
  readonly open: number
  /** Number of requests whose exchange has not ended. */
  readonly pending: number
  /** Returns the number of requests whose path, including its query, matches. */
  count: (path: RegExp) => number
  /** Settles with the `nth` request (from 1) whose path matches, before its response. */
  arrived: (path: RegExp, nth?: number) => Promise<LoopbackRequest>
  /** Closes every connection and refuses new ones. */
  stop: () => Promise<void>
  /** Listens again on the same port. */
  start: () => Promise<void>
  /** Stops the server, for teardown. */
  close: () => Promise<void>
  fault: Fault | undefined
}

interface Waiter {
  path: RegExp
  nth: number
  resolve: (request: LoopbackRequest) => void
}

const blanks = Buffer.alloc(65536, ' ')

function * endlessly (start: Buffer): Generator<Buffer> {
  yield start
  while (true) yield blanks
}

/** Sends the head of a response, with its length unless it has `transfer-encoding`, and returns the body. */
function send (response: ServerResponse, { status, headers = {}, body = '' }: LoopbackResponse): Buffer {
  if (body instanceof Readable) throw new TypeError('a fault cannot change a stream')
  const bytes = Buffer.from(body)
  const framed = 'content-length' in headers || 'transfer-encoding' in headers || status === 304
  response.writeHead(status, framed ? headers : { ...headers, 'content-length': bytes.length })
  return bytes
}

/** Sends a complete response. */
function sendWhole (response: ServerResponse, reply: LoopbackResponse): void {
  if (!(reply.body instanceof Readable)) response.end(send(response, reply))
  else pipeline(reply.body, response.writeHead(reply.status, reply.headers), () => {})
}

async function misbehave (
  response: ServerResponse,
  action: Exclude<FaultAction, LoopbackResponse>,
  reply: LoopbackResponse
): Promise<void> {
  const socket = response.socket as Socket
  if (action === 'refuse-reset') socket.resetAndDestroy()
  if (action === 'refuse-reset' || action === 'hang') return
  if (action === 'endless') {
    const { 'content-length': _, ...headers } = reply.headers ?? {}
    const bytes = send(response, { ...reply, headers: { ...headers, 'transfer-encoding': 'chunked' } })
    const source = Readable.from(endlessly(bytes))
    response.once('close', () => source.destroy())
    source.pipe(response)
    return
  }
  const bytes = send(response, reply)
  if (action === 'drip') {
    const size = Math.max(1, Math.ceil(bytes.length / 256))
    for (let start = 0; start < bytes.length && !socket.destroyed; start += size) {
      response.write(bytes.subarray(start, start + size))
      await setImmediate()
    }
    response.end()
    return
  }
  response.flushHeaders()
  response.write(bytes.subarray(0, bytes.length / 2), () => { if (action === 'reset') socket.resetAndDestroy() })
  if (action === 'truncate') socket.destroySoon()
}

async function bodyOf (message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of message) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

/** Starts a server that sends the responses of `handler`; an error of the handler is a 500 with the error as text. */
export async function createLoopback (handler: LoopbackHandler): Promise<Loopback> {
  const requests: LoopbackRequest[] = []
  let waiters: Waiter[] = []
  let connections = 0
  let pending = 0
  let port = 0

  function count (path: RegExp): number {
    return requests.filter((request) => path.test(request.path)).length
  }

  function record (message: IncomingMessage, response: ServerResponse): LoopbackRequest {
    const { promise, resolve } = Promise.withResolvers<'completed' | 'aborted'>()
    pending++
    response.once('close', () => {
      pending--
      resolve(response.writableFinished ? 'completed' : 'aborted')
    })
    const request = { method: message.method ?? '', path: message.url ?? '', headers: message.headers, over: promise }
    requests.push(request)
    return request
  }

  function announce (request: LoopbackRequest): void {
    const due = waiters.filter(({ path, nth }) => path.test(request.path) && count(path) >= nth)
    waiters = waiters.filter((waiter) => !due.includes(waiter))
    for (const waiter of due) waiter.resolve(request)
  }

  async function reply (message: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = record(message, response)
    announce(request)
    if (request.method === 'GET' || request.method === 'HEAD') message.resume()
    else request.body = await bodyOf(message)
    const action = await loopback.fault?.(request)
    if (response.destroyed) return
    if (typeof action === 'object') sendWhole(response, action)
    else if (action === undefined) sendWhole(response, await handler(request))
    else await misbehave(response, action, await handler(request))
  }

  const server = createServer((message, response) => {
    reply(message, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy()
      else response.writeHead(500, { 'content-type': 'text/plain' }).end(String(error))
    })
  })
  server.keepAliveTimeout = 0
  let open = 0
  server.on('connection', socket => {
    connections++
    open++
    socket.once('close', () => { open-- })
  })

  async function start (): Promise<void> {
    if (server.listening) return
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => {
      server.off('error', reject)
      resolve()
    })
    await promise
    port = (server.address() as AddressInfo).port
  }

  async function stop (): Promise<void> {
    if (!server.listening) return
    const { promise, resolve } = Promise.withResolvers<void>()
    server.close(() => resolve())
    server.closeAllConnections()
    await promise
  }

  async function arrived (path: RegExp, nth = 1): Promise<LoopbackRequest> {
    const before = requests.filter((request) => path.test(request.path))[nth - 1]
    if (before !== undefined) return before
    return await new Promise((resolve) => { waiters.push({ path, nth, resolve }) })
  }

  const loopback: Loopback = {
    get url () { return `http://127.0.0.1:${port}` },
    get port () { return port },
    get connections () { return connections },
    get open () { return open },
    get pending () { return pending },
    requests,
    count,
    arrived,
    start,
    stop,
    close: stop,
    fault: undefined
  }
  await start()
  return loopback
}
