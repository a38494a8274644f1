import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import type { ListenOptions, Socket } from 'node:net'
import type { FastifyBaseLogger, FastifyServerFactory, FastifyServerOptions } from 'fastify'
import { envelope, registryError, type RegistryError } from './errors.ts'

// An import evaluates every lazy export of the module, such as the WebSocket client, which costs startup time.
const { createServer, STATUS_CODES } = process.getBuiltinModule('node:http')

export interface HttpServerOptions {
  /** Returns the headers of every response, beside those of the error. */
  commonHeaders: () => Record<string, string>
  /** Returns the id of a request. */
  requestId: (headers: IncomingMessage['headers']) => string
}

/** Options that Fastify passes to a server factory but its types omit: the options of the server, and the logger. */
interface FactoryOptions
  extends
  Pick<FastifyServerOptions, 'keepAliveTimeout' | 'requestTimeout' | 'connectionTimeout' | 'maxRequestsPerSocket'> {
  http?: object
  https?: object | boolean | null
  http2?: boolean
  logger?: FastifyBaseLogger
}

/** Returns the response to a request that is refused before it reaches Fastify. */
export function refusal (error: RegistryError, id: string, commonHeaders: Record<string, string>) {
  const { status, headers, body } = envelope(error)
  const payload = JSON.stringify(body)
  return {
    status,
    payload,
    headers: {
      'x-request-id': id,
      ...commonHeaders,
      ...headers,
      'content-type': 'application/json; charset=utf-8',
      'content-length': String(Buffer.byteLength(payload)),
      connection: 'close'
    }
  }
}

/** A socket with its response in progress. Node.js stores the response there to handle malformed requests. */
export type ClientSocket = Socket & { _httpMessage?: Pick<ServerResponse, 'headersSent' | 'writableEnded'> | null }

/** Writes a response to a socket that has no response object. */
export function writeRefusal (
  socket: Pick<Socket, 'end'>,
  { status, headers, payload }: ReturnType<typeof refusal>
): void {
  const lines = Object.entries({ date: new Date().toUTCString(), ...headers }).map(([name, value]) =>
    `${name}: ${value}\r\n`
  )
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines.join('')}\r\n${payload}`)
}

/**
 * Returns the reason why the `Host` of a request is refused (RFC 9112, section 3.2); undefined for a valid one. It is
 * optional in HTTP/1.0.
 */
function hostError ({ rawHeaders, httpVersionMinor, headers: { host } }: IncomingMessage): string | undefined {
  let count = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] as string
    if (name.length === 4 && name.toLowerCase() === 'host') count++
  }
  if (count > 1) return 'More than one Host header'
  if (host === undefined) return httpVersionMinor === 0 ? undefined : 'Missing Host header'
  return /[\s/?#@\\]/.test(host) ? 'Invalid Host header' : undefined
}

/**
 * Makes a server that listens on `localhost` listen on each address of that name, IPv4 and IPv6. Fastify does this only
 * for servers that it creates itself.
 */
function listenOnEachAddress (server: Server, highWaterMark: number | undefined): void {
  const listen = server.listen.bind(server) as (...given: unknown[]) => Server
  const listenBeside = (host: string): void => {
    const main = server.address()
    if (main === null || typeof main === 'string') return
    process.getBuiltinModule('node:dns').lookup(host, { all: true }, (error, found) => {
      if (error !== null || !server.listening) return
      for (const { address } of found.filter(({ address }) => address !== main.address)) {
        // The options that Node.js uses for HTTP servers.
        const beside = process.getBuiltinModule('node:net').createServer({
          allowHalfOpen: true,
          noDelay: true,
          ...(highWaterMark !== undefined && { highWaterMark })
        }, socket => {
          server.emit('connection', socket)
        })
        // The error is ignored, because the server already listens on the main address. The machine may lack this
        // address, or its port may be in use.
        beside.on('error', () => {})
        beside.listen({ host: address, port: main.port })
        server.once('close', () => { beside.close() })
      }
    })
  }
  server.listen = (...given: unknown[]) => {
    const { host } = (given[0] ?? {}) as ListenOptions
    if (host === 'localhost') server.once('listening', () => { listenBeside(host) })
    return listen(...given)
  }
}

/**
 * Returns a factory of servers that send the error envelope for requests that Node.js refuses without a body or drops.
 * These are requests without `Host` or with an unknown `Expect`, and CONNECT.
 */
export function createServerFactory ({ commonHeaders, requestId }: HttpServerOptions): FastifyServerFactory<Server> {
  return (handler, given) => {
    const { http, https, http2, logger, keepAliveTimeout, requestTimeout, connectionTimeout, maxRequestsPerSocket } =
      given as FactoryOptions
    if (http2 === true) {
      throw new Error('serverOptions() makes HTTP/1.1 servers: for http2 set serverFactory to undefined')
    }

    const refuse = ({ method, url, headers, socket }: IncomingMessage, error: RegistryError) => {
      const id = requestId(headers)
      const response = refusal(error, id, commonHeaders())
      logger?.info(
        { reqId: id, method, url: url?.slice(0, 512), status: response.status, ip: socket.remoteAddress },
        'request'
      )
      return response
    }
    const respond = (request: IncomingMessage, response: ServerResponse, error: RegistryError): void => {
      const { status, headers, payload } = refuse(request, error)
      // The rest of the body is read and discarded, because unread bytes would reset the connection before the client
      // has received the response.
      request.resume()
      response.writeHead(status, headers).end(request.method === 'HEAD' ? undefined : payload)
    }
    const listener: RequestListener = (request, response) => {
      const invalid = hostError(request)
      if (invalid === undefined) (handler as unknown as RequestListener)(request, response)
      else respond(request, response, registryError('invalid_request', invalid))
    }

    const server = https === undefined || https === null || https === false
      ? createServer({ ...http, requireHostHeader: false }, listener)
      : process.getBuiltinModule('node:https').createServer({
        ...(https === true ? {} : https),
        requireHostHeader: false
      }, listener)
    // Fastify sets these only on servers that it creates itself.
    if (keepAliveTimeout !== undefined) server.keepAliveTimeout = keepAliveTimeout
    if (requestTimeout !== undefined) server.requestTimeout = requestTimeout
    if (connectionTimeout !== undefined) server.setTimeout(connectionTimeout)
    if ((maxRequestsPerSocket ?? 0) > 0) server.maxRequestsPerSocket = maxRequestsPerSocket as number

    listenOnEachAddress(server as Server, (http as { highWaterMark?: number } | undefined)?.highWaterMark)

    server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
      respond(
        request,
        response,
        registryError('invalid_request', 'Unknown expectation: only 100-continue is supported', { status: 417 })
      )
    })
    server.on('connect', (request: IncomingMessage, socket: ClientSocket) => {
      // A host that serves tunnels has its own listener.
      if (server.listenerCount('connect') > 1) return
      // An earlier request on this connection is still in progress. These bytes would become a part of its response, or
      // replace it.
      if (socket._httpMessage?.writableEnded === false) {
        socket.destroy()
        return
      }
      socket.on('error', () => {
        socket.destroy()
      })
      writeRefusal(
        socket,
        refuse(
          request,
          registryError('method_not_allowed', 'Method CONNECT is not allowed: use GET or HEAD', {
            allow: ['GET', 'HEAD']
          })
        )
      )
    })
    return server as Server
  }
}
