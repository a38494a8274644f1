import { createServer } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { pipeline, Readable } from 'node:stream'
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

/** A request as it arrived; `path` with its query, undecoded. */
export interface LoopbackRequest {
  method: string
  path: string
  headers: IncomingHttpHeaders
  /** Of anything but GET and HEAD. */
  body?: string
  /** Settles when the exchange is over: whether the whole answer was sent, or the connection went first. */
  over: Promise<'answered' | 'aborted'>
}

export interface LoopbackAnswer {
  status: number
  headers?: OutgoingHttpHeaders
  /** A stream is sent as it comes, its length untold. */
  body?: Buffer | string | Readable
}

/**
 * What goes wrong with one answer:
 * - `refuse-reset`: the connection is reset before any byte of an answer
 * - `hang`: no answer, ever
 * - `stall`: head and half of the true body, then silence
 * - `truncate`: head and half of the true body, then the connection closes
 * - `reset`: head and half of the true body, then the connection is reset
 * - `drip`: the true answer, its body in many small pieces
 * - `endless`: the true body without its length, then blanks without end
 * - an answer: that one instead of the true one
 */
export type FaultAction = 'refuse-reset' | 'hang' | 'stall' | 'truncate' | 'reset' | 'drip' | 'endless' | LoopbackAnswer

/**
 * Asked for each request before the fake answers; undefined lets it. A promise holds the answer back until it settles.
 */
export type Fault = (request: LoopbackRequest) => FaultAction | undefined | Promise<FaultAction | undefined>

export type LoopbackHandler = (request: LoopbackRequest) => LoopbackAnswer | Promise<LoopbackAnswer>

/** A server on 127.0.0.1. Its functions need no `this`. */
export interface Loopback {
  /** `http://127.0.0.1:{port}`, the same after a stop and a start. */
  readonly url: string
  readonly port: number
  /** All since the beginning, or since it was emptied with `length = 0`. */
  readonly requests: LoopbackRequest[]
  /** How many connections were ever accepted. */
  readonly connections: number
  /** Connections that are open now. */
  readonly open: number
  /** Requests whose exchange is not over. */
  readonly pending: number
  /** Requests whose path, with its query, matches. */
  count: (path: RegExp) => number
  /** Settles with the request when the `nth` one (from 1) of a matching path has arrived, before it is answered. */
  arrived: (path: RegExp, nth?: number) => Promise<LoopbackRequest>
  /** Drops every connection and refuses new ones. */
  stop: () => Promise<void>
  /** Listens again on the same port. */
  start: () => Promise<void>
  /** The same as `stop`, for teardown. */
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

/** Sends the head of an answer as it is, its length told unless it says `transfer-encoding`; gives the body. */
function send (response: ServerResponse, { status, headers = {}, body = '' }: LoopbackAnswer): Buffer {
  if (body instanceof Readable) throw new TypeError('a stream is sent as it is or not at all')
  const bytes = Buffer.from(body)
  const framed = 'content-length' in headers || 'transfer-encoding' in headers || status === 304
  response.writeHead(status, framed ? headers : { ...headers, 'content-length': bytes.length })
  return bytes
}

/** Sends an answer as it is, to its end. */
function sendWhole (response: ServerResponse, answer: LoopbackAnswer): void {
  if (!(answer.body instanceof Readable)) response.end(send(response, answer))
  else pipeline(answer.body, response.writeHead(answer.status, answer.headers), () => {})
}

async function misbehave (
  response: ServerResponse,
  action: Exclude<FaultAction, LoopbackAnswer>,
  answer: LoopbackAnswer
): Promise<void> {
  const socket = response.socket as Socket
  if (action === 'refuse-reset') socket.resetAndDestroy()
  if (action === 'refuse-reset' || action === 'hang') return
  if (action === 'endless') {
    const { 'content-length': _, ...headers } = answer.headers ?? {}
    const bytes = send(response, { ...answer, headers: { ...headers, 'transfer-encoding': 'chunked' } })
    const source = Readable.from(endlessly(bytes))
    response.once('close', () => source.destroy())
    source.pipe(response)
    return
  }
  const bytes = send(response, answer)
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

/** Starts a server that answers what `handler` says; what it throws is a 500 with the error as text. */
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
    const { promise, resolve } = Promise.withResolvers<'answered' | 'aborted'>()
    pending++
    response.once('close', () => {
      pending--
      resolve(response.writableFinished ? 'answered' : 'aborted')
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

  async function answer (message: IncomingMessage, response: ServerResponse): Promise<void> {
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
    answer(message, response).catch((error: unknown) => {
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
