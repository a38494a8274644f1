import { randomBytes } from 'node:crypto'
import type { Server } from 'node:http'
import { isIP } from 'node:net'
import {
  LogController,
  type FastifyHttpOptions,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest
} from 'fastify'
import ipaddr from 'ipaddr.js'
import type { RegistryConfig } from '../schemas/config.ts'
import { errorHandler, registryError } from './errors.ts'
import { createServerFactory, refusal, writeRefusal, type ClientSocket } from './http-server.ts'
import { createSecurityHeaders } from './common-headers.ts'

/** Keys of `server` that define the trusted proxies. */
export interface ProxyTrust { trust_proxy?: boolean | undefined, trusted_proxies?: readonly string[] | undefined }

/**
 * Returns the address of an item of `X-Forwarded-For`. The item may have a port, brackets and quotes:
 * `203.0.113.1:1111`, `[2001:db8::1]:443`. Returns undefined for an item without an address, such as `unknown`.
 */
export function parseForwarded (item: string): string | undefined {
  const bare = item.trim().replace(/^"(.*)"$/, '$1').trim()
  const [, bracketed, dotted] = /^(?:\[([^\]]*)\]|([\d.]+))(?::\d{1,5})?$/.exec(bare) ?? []
  const address = bracketed ?? dotted ?? bare
  return isIP(address) === 0 ? undefined : address
}

/**
 * Removes the zone of an IPv6 address (RFC 4007). A zone is local to one machine, so networks and clients are compared
 * without it.
 */
export const withoutZone = (address: string): string => address.replace(/%.*$/, '')

/** Returns a network in the form that ipaddr.js compares; an IPv4 network in IPv6 notation becomes an IPv4 network. */
function parseNetwork (text: string): [ipaddr.IPv4 | ipaddr.IPv6, number] {
  if (!text.includes('/')) {
    const address = ipaddr.process(text)
    return [address, address.kind() === 'ipv4' ? 32 : 128]
  }
  const [address, bits] = ipaddr.parseCIDR(text)
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() && bits >= 96
    ? [address.toIPv4Address(), bits - 96]
    : [address, bits]
}

/**
 * Returns the value of Fastify's `trustProxy`. It compares only the address of an item of `X-Forwarded-For`; Fastify's
 * own comparison never trusts an item with a port.
 */
export function trustProxy (
  { trust_proxy: trusted = false, trusted_proxies: proxies = [] }: ProxyTrust
): boolean | ((address: string) => boolean) {
  if (!trusted || proxies.length === 0) return trusted
  const networks = proxies.map(parseNetwork)
  return item => {
    // A closed socket has no address.
    const text = parseForwarded(item ?? '')
    if (text === undefined) return false
    // ipaddr.js rejects zones that Node.js accepts.
    const address = ipaddr.process(withoutZone(text))
    return networks.some(([network, bits]) => network.kind() === address.kind() && address.match(network, bits))
  }
}

/** Parts of a request that determine the address of its client. `ips` is present when a proxy is trusted. */
export type ClientRequest = Pick<FastifyRequest, 'ip'> & Partial<Pick<FastifyRequest, 'ips'>> & {
  socket: Pick<FastifyRequest['socket'], 'remoteAddress'>
}

/**
 * Returns the address of the client of a request, for the log and the rate limit. Behind trusted proxies it is the
 * farthest address that they report; an item without an address is skipped. Returns an empty string when the connection
 * is closed.
 */
export function clientAddress ({ ip, ips, socket }: ClientRequest): string {
  // Without a trusted proxy it is the address of the connection.
  if (ips === undefined && ip === socket?.remoteAddress) return ip ?? ''
  const reported = ips ?? [ip]
  for (let at = reported.length - 1; at >= 0; at--) {
    const address = parseForwarded(reported[at] ?? '')
    if (address !== undefined) return address
  }
  return socket?.remoteAddress ?? ''
}

/**
 * Maximum milliseconds for the headers of a request and for the whole request to arrive, and the interval of the check.
 */
const arrival = { headersTimeout: 15_000, requestTimeout: 30_000, connectionsCheckingInterval: 5_000 }

/**
 * Maximum bytes in memory for a slow client. Further bytes are read from their source when the client has received
 * these.
 */
const unsent = 16 * 1024

/**
 * Minimum seconds without activity after which a connection is closed. It is longer when the registry may wait longer
 * for an upstream.
 */
const silence = 120

/** Maximum length of a path parameter. A request with a longer one is refused before validation. */
const maxParameterLength = 512

/** Logs one line per completed request; probes and metrics at level debug. */
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

/** The first part of the ids of new requests: 64 random bits, so that no two processes have the same. */
const idPrefix = `${randomBytes(4).toString('hex')}-${randomBytes(4).toString('hex')}-`
let requests = 0

/** Returns the id of a new request, such as `1f0c93ab-77de0b12-2s`. Ids are unique, and not secret. */
const newRequestId = (): string => idPrefix + (requests++).toString(36)

/** Returns the request id of the client if it is safe in a log and a header, or a new id. */
function requestId (headers: Record<string, string | string[] | undefined>): string {
  const given = headers['x-request-id']
  return typeof given === 'string' && /^[\w.:/+=-]{1,128}$/.test(given) ? given : newRequestId()
}

/** Returns the error of a request that could not be read, by the code of Node.js. */
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
 * Returns the headers of every response of an instance: those of its registry, which include CORS, or `common` without
 * a registry.
 */
const headersOf = (instance: FastifyInstance, common: () => Record<string, string>): Record<string, string> =>
  instance.hasDecorator('commonHeaders') ? instance.commonHeaders : common()

/**
 * Creates the handler of bytes that are not an HTTP request, for which only a socket exists. Fastify calls it with the
 * instance as `this`.
 */
function createClientErrorHandler (commonHeaders: () => Record<string, string>) {
  return function clientErrorHandler (
    this: FastifyInstance,
    error: Error & { code?: string },
    socket: ClientSocket
  ): void {
    // A response that has begun would be corrupted by the bytes of this one.
    if (error.code === 'ECONNRESET' || !socket.writable || socket._httpMessage?.headersSent === true) {
      socket.destroy()
      return
    }
    // A client that connected and sent nothing gets no response, because a browser would use it as the response to its
    // next request.
    if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT' && socket.bytesRead === 0) {
      socket.destroy()
      return
    }
    const id = newRequestId()
    const refused = refusal(unreadable(error.code), id, headersOf(this, commonHeaders))
    this.log.info({ reqId: id, status: refused.status, code: error.code, ip: socket.remoteAddress }, 'request')
    writeRefusal(socket, refused)
  }
}

/**
 * Parts of the configuration that determine the options of the server. Missing keys have their defaults, and other keys
 * are ignored.
 */
export interface ServerSettings {
  server?: RegistryConfig['server']
  log?: RegistryConfig['log']
  /** Only `timeout_seconds` of the instances is used. */
  gitea?: object | readonly object[] | undefined
  oci?: object | readonly object[] | undefined
}

/** Returns the maximum wait for an instance, in seconds. */
const waitOf = (instance: object): number =>
  'timeout_seconds' in instance && typeof instance.timeout_seconds === 'number' ? instance.timeout_seconds : 0

/**
 * Returns the server options of the registry, for `Fastify(serverOptions())`. A host can omit them, with these losses:
 * names over 100 characters fail, requests have Fastify's log lines, and request ids of clients are ignored. The error
 * envelope is then missing for malformed URLs and requests, too large headers, a missing `Host`, an unknown `Expect`,
 * and CONNECT.
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
    // Without a timeout, a client that stops reading would hold its download forever.
    connectionTimeout: Math.max(silence, 2 * Math.max(budget, ...waits)) * 1000,
    clientErrorHandler: createClientErrorHandler(commonHeaders),
    frameworkErrors: (error, request, reply) => {
      const message = error.code === 'FST_ERR_MAX_PARAM_LENGTH'
        ? 'A part of the path is too long'
        : error.code === 'FST_ERR_BAD_URL'
          ? 'Malformed URL'
          : error.message
      // Hooks do not run for a request without a route.
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
