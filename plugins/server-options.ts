import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import { LogController, type FastifyReply, type FastifyRequest, type FastifyServerOptions } from 'fastify'
import type { LogConfig, ServerConfig } from '../schemas/config.ts'
import { envelope, errorHandler, registryError } from './errors.ts'

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

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route is asked by machines all day long: its requests are logged at debug. */
    probe?: boolean
  }
}

/** A client's own request id when it can stand in a log and a header, else a new one. */
function requestId (headers: Record<string, string | string[] | undefined>): string {
  const given = headers['x-request-id']
  return typeof given === 'string' && /^[\w.:/+=-]{1,128}$/.test(given) ? given : randomUUID()
}

/** Answers what is no HTTP request at all; there is no reply yet, only a socket. */
function clientErrorHandler (error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const { headers, body } = envelope(registryError('invalid_request', error.code === 'HPE_HEADER_OVERFLOW' ? 'Request headers are too large' : 'Malformed request'))
  const payload = JSON.stringify(body)
  const lines = Object.entries({ ...headers, 'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(payload), connection: 'close' })
  socket.end(`HTTP/1.1 400 Bad Request\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${payload}`)
}

/** The part of the configuration that the server itself is made with; what is left out has its default. The rest may stand beside it. */
export interface ServerSettings {
  server?: Partial<ServerConfig>
  log?: LogConfig
}

/**
 * What the registry needs of the server itself, for `Fastify(serverOptions())`. A host that embeds the registry and
 * leaves them out loses: names of over 100 characters, the error envelope for malformed URLs and requests, one log line a
 * request, and the request ids of clients.
 */
export function serverOptions ({ server: { trust_proxy: trustProxy = false } = {}, log = { level: 'info' } }: ServerSettings = {}): FastifyServerOptions {
  return {
    logger: { level: log.level },
    logController: new RequestLog(),
    genReqId: ({ headers }) => requestId(headers),
    trustProxy,
    routerOptions: { maxParamLength: longestParameter },
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    requestTimeout: 30_000,
    clientErrorHandler,
    frameworkErrors: (error, request, reply) => {
      const message = error.code === 'FST_ERR_MAX_PARAM_LENGTH' ? 'A part of the path is too long' : error.code === 'FST_ERR_BAD_URL' ? 'Malformed URL' : error.message
      // No hook runs for a request that has no route.
      reply.header('x-request-id', request.id)
      errorHandler(registryError('invalid_request', message), request as FastifyRequest, reply as FastifyReply)
      request.log.info({ method: request.method, url: request.url.slice(0, longestParameter), status: 400, ip: request.ip }, 'request')
    }
  }
}
