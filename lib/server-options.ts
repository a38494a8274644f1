import { randomUUID } from 'node:crypto'
import type { Server } from 'node:http'
import {
  LogController,
  type FastifyHttpOptions,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest
} from 'fastify'
import type { RegistryConfig } from '../schemas/config.ts'
import { clientAddress, trustProxy } from './client-address.ts'
import { errorHandler, registryError } from './errors.ts'
import { createServerFactory, refusal, writeRefusal, type ClientSocket } from './http-server.ts'
import { createSecurityHeaders } from './common-headers.ts'

/**
 * Milliseconds that a request's headers may take to arrive, that the whole of it may take, and after which both are
 * looked at again.
 */
const arrival = { headersTimeout: 15_000, requestTimeout: 30_000, connectionsCheckingInterval: 5_000 }

/** Bytes that wait in the process for a client that takes them slowly; what comes after them stays where it is. */
const unsent = 16 * 1024

/**
 * Seconds after which a connection on which nothing moves is given up, unless the registry itself may be waiting for
 * longer.
 */
const silence = 120

/** Longest part of a path that reaches validation; longer ones are refused as they are. */
const maxParameterLength = 512

/** One line a request when it is over; probes and metrics at debug. */
class RequestLog extends LogController {
  override incomingRequest (): void {}
  override routeNotFound (): void {}

  override requestCompleted (error: Error | null | undefined, request: FastifyRequest, reply: FastifyReply): void {
    const line = {
      method: request.method,
      url: request.url,
      status: reply.statusCode,
      ms: Math.round(reply.elapsedTime * 10) / 10,
      ip: clientAddress(request)
    }
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

/** Returns why a request could not be read, by the code of Node.js. */
function unreadable (code: string | undefined) {
  if (code === 'HPE_HEADER_OVERFLOW') {
    return registryError('invalid_request', 'Request headers are too large', { status: 431 })
  }
  return registryError(
    'invalid_request',
    code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 'Request took too long to arrive' : 'Malformed request'
  )
}

/**
 * Returns the headers of every response of an instance: those of the registry in it, which include CORS, or else
 * `common`.
 */
const headersOf = (instance: FastifyInstance, common: () => Record<string, string>): Record<string, string> =>
  instance.hasDecorator('commonHeaders') ? instance.commonHeaders : common()

/**
 * Responds to bytes that are not an HTTP request, which have a socket only. Fastify calls it with the instance as
 * `this`.
 */
function createClientErrorHandler (commonHeaders: () => Record<string, string>) {
  return function clientErrorHandler (
    this: FastifyInstance,
    error: Error & { code?: string },
    socket: ClientSocket
  ): void {
    // The bytes of this response would become a part of one that has begun.
    if (error.code === 'ECONNRESET' || !socket.writable || socket._httpMessage?.headersSent === true) {
      socket.destroy()
      return
    }
    // A client that connected and sent nothing gets no response: a browser would take it for the response to its next
    // request.
    if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT' && socket.bytesRead === 0) {
      socket.destroy()
      return
    }
    const id = randomUUID()
    const refused = refusal(unreadable(error.code), id, headersOf(this, commonHeaders))
    this.log.info({ reqId: id, status: refused.status, code: error.code, ip: socket.remoteAddress }, 'request')
    writeRefusal(socket, refused)
  }
}

/**
 * The part of the configuration that the server itself is made with; what is left out has its default. The rest may
 * stand beside it.
 */
export interface ServerSettings {
  server?: RegistryConfig['server']
  log?: RegistryConfig['log']
  /** Of the instances only `timeout_seconds` counts. */
  gitea?: object | readonly object[] | undefined
  oci?: object | readonly object[] | undefined
}

/** How long an instance may be waited for, in seconds. */
const waitOf = (instance: object): number =>
  'timeout_seconds' in instance && typeof instance.timeout_seconds === 'number' ? instance.timeout_seconds : 0

/**
 * What the registry needs of the server itself, for `Fastify(serverOptions())`. A host that embeds the registry and
 * leaves them out loses: names of over 100 characters, the error envelope for malformed URLs and requests, for requests
 * without `Host`, with an unknown `Expect` or with too large headers and for CONNECT, one log line a request, and the
 * request ids of clients.
 */
export function serverOptions (
  { server = {}, log = {}, gitea = [], oci = [] }: ServerSettings = {}
): FastifyHttpOptions<Server> {
  const { request_budget_seconds: budget = 0, cors_origins: origins = ['*'], public_url: url } = server
  let securityHeaders: Record<string, string> | undefined
  const commonHeaders =
    () => (securityHeaders ??= createSecurityHeaders({
      cors_origins: origins,
      ...(url !== undefined && { public_url: url })
    }))
  const waits = [gitea, oci].flat().map(waitOf)
  return {
    logger: { level: log.level ?? 'info' },
    logController: new RequestLog(),
    genReqId: ({ headers }) => requestId(headers),
    trustProxy: trustProxy(server),
    serverFactory: createServerFactory({ commonHeaders, requestId }),
    routerOptions: { maxParamLength: maxParameterLength },
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    requestTimeout: arrival.requestTimeout,
    http: { ...arrival, highWaterMark: unsent },
    // A client that takes nothing of its download would hold it for ever.
    connectionTimeout: Math.max(silence, 2 * Math.max(budget, ...waits)) * 1000,
    clientErrorHandler: createClientErrorHandler(commonHeaders),
    frameworkErrors: (error, request, reply) => {
      const message = error.code === 'FST_ERR_MAX_PARAM_LENGTH'
        ? 'A part of the path is too long'
        : error.code === 'FST_ERR_BAD_URL'
          ? 'Malformed URL'
          : error.message
      // No hook runs for a request that has no route.
      reply.header('x-request-id', request.id)
      reply.headers(headersOf(request.server, commonHeaders))
      errorHandler(registryError('invalid_request', message), request as FastifyRequest, reply as FastifyReply)
      request.log.info({
        method: request.method,
        url: request.url.slice(0, maxParameterLength),
        status: 400,
        ip: clientAddress(request as FastifyRequest)
      }, 'request')
    }
  }
}
