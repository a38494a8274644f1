import { randomUUID } from 'node:crypto'
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { LogController, type FastifyHttpOptions, type FastifyReply, type FastifyRequest } from 'fastify'
import type { RegistryConfig } from '../schemas/config.ts'
import { envelope, errorHandler, registryError } from './errors.ts'

/** Milliseconds that a request's headers may take to arrive, that the whole of it may take, and after which both are looked at again. */
const arrival = { headersTimeout: 15_000, requestTimeout: 30_000, connectionsCheckingInterval: 5_000 }

/** Bytes that wait in the process for a client that takes them slowly; what comes after them stays where it is. */
const unsent = 16 * 1024

/** Seconds after which a connection on which nothing moves is given up, unless the registry itself may be waiting for longer. */
const silence = 120

/** Longest part of a path that reaches validation; longer ones are refused as they are. */
const longestParameter = 512

/** One line a request when it is over; probes and metrics at debug. */
class RequestLog extends LogController {
  override incomingRequest (): void {}
  override routeNotFound (): void {}

  override requestCompleted (error: Error | null | undefined, request: FastifyRequest, reply: FastifyReply): void {
    const line = { method: request.method, url: request.url, status: reply.statusCode, ms: Math.round(reply.elapsedTime * 10) / 10, ip: request.ip }
    if (error !== null && error !== undefined) reply.log.error({ ...line, err: error }, 'request')
    else if (request.routeOptions.config.probe === true) reply.log.debug(line, 'request')
    else reply.log.info(line, 'request')
  }
}

/** A client's own request id when it can stand in a log and a header, else a new one. */
function requestId (headers: Record<string, string | string[] | undefined>): string {
  const given = headers['x-request-id']
  return typeof given === 'string' && /^[\w.:/+=-]{1,128}$/.test(given) ? given : randomUUID()
}

/** Why a request could not be read, by Node's code. */
const unreadable: Record<string, string> = {
  HPE_HEADER_OVERFLOW: 'Request headers are too large',
  ERR_HTTP_REQUEST_TIMEOUT: 'Request took too long to arrive'
}

/** Answers what is no HTTP request at all; there is no reply yet, only a socket. */
function clientErrorHandler (error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  // Who connected and said nothing gets no answer: a browser would take it for that to its next request.
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT' && socket.bytesRead === 0) {
    socket.destroy()
    return
  }
  const { headers, body } = envelope(registryError('invalid_request', unreadable[error.code ?? ''] ?? 'Malformed request'))
  const payload = JSON.stringify(body)
  const lines = Object.entries({ ...headers, 'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(payload), connection: 'close' })
  socket.end(`HTTP/1.1 400 Bad Request\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${payload}`)
}

/** The part of the configuration that the server itself is made with; what is left out has its default. The rest may stand beside it. */
export interface ServerSettings {
  server?: RegistryConfig['server']
  log?: RegistryConfig['log']
  /** Of the instances only `timeout_seconds` counts. */
  gitea?: object | readonly object[] | undefined
  oci?: object | readonly object[] | undefined
}

/** How long an instance may be waited for, in seconds. */
const waitOf = (instance: object): number => 'timeout_seconds' in instance && typeof instance.timeout_seconds === 'number' ? instance.timeout_seconds : 0

/**
 * What the registry needs of the server itself, for `Fastify(serverOptions())`. A host that embeds the registry and
 * leaves them out loses: names of over 100 characters, the error envelope for malformed URLs and requests, one log line a
 * request, and the request ids of clients.
 */
export function serverOptions ({ server = {}, log = {}, gitea = [], oci = [] }: ServerSettings = {}): FastifyHttpOptions<Server> {
  const { trust_proxy: trusted = false, trusted_proxies: proxies = [], request_budget_seconds: budget = 0 } = server
  const waits = [gitea, oci].flat().map(waitOf)
  return {
    logger: { level: log.level ?? 'info' },
    logController: new RequestLog(),
    genReqId: ({ headers }) => requestId(headers),
    trustProxy: trusted && proxies.length > 0 ? [...proxies] : trusted,
    routerOptions: { maxParamLength: longestParameter },
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    requestTimeout: arrival.requestTimeout,
    http: { ...arrival, highWaterMark: unsent },
    // A client that takes nothing of its download would hold it for ever.
    connectionTimeout: Math.max(silence, 2 * Math.max(budget, ...waits)) * 1000,
    clientErrorHandler,
    frameworkErrors: (error, request, reply) => {
      const message = error.code === 'FST_ERR_MAX_PARAM_LENGTH' ? 'A part of the path is too long' : error.code === 'FST_ERR_BAD_URL' ? 'Malformed URL' : error.message
      // No hook runs for a request that has no route.
      reply.header('x-request-id', request.id)
      if (request.server.hasDecorator('commonHeaders')) reply.headers(request.server.commonHeaders)
      errorHandler(registryError('invalid_request', message), request as FastifyRequest, reply as FastifyReply)
      request.log.info({ method: request.method, url: request.url.slice(0, longestParameter), status: 400, ip: request.ip }, 'request')
    }
  }
}
