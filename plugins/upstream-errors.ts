import type { IncomingHttpHeaders } from 'node:http'
import { ReadError, RequestError, TimeoutError } from 'got'
import { isRegistryError, registryError, type RegistryError } from './errors.ts'
import { prohibited } from './upstream-addresses.ts'

/** Words for a person, and RFC 9209 section 2.3's, by error code. */
const network: Record<string, readonly [string, string]> = {
  ECONNREFUSED: ['Connection refused', 'connection_refused'],
  ECONNRESET: ['Connection reset', 'connection_terminated'],
  EPIPE: ['Connection reset', 'connection_terminated'],
  ENOTFOUND: ['Host not found', 'dns_error'],
  EAI_AGAIN: ['Host not found', 'dns_error'],
  EHOSTUNREACH: ['Host unreachable', 'destination_ip_unroutable'],
  ENETUNREACH: ['Network unreachable', 'destination_ip_unroutable'],
  [prohibited]: ['Host is on an inner network and not configured', 'destination_ip_prohibited'],
  ETIMEDOUT: ['Connection timeout', 'connection_timeout'],
  ERR_PROXY_TUNNEL: ['Proxy refuses the connection', 'destination_unavailable'],
  HPE_INVALID_CONSTANT: ['Answer is not HTTP', 'http_protocol_error'],
  DEPTH_ZERO_SELF_SIGNED_CERT: ['Certificate is not trusted', 'tls_certificate_error'],
  SELF_SIGNED_CERT_IN_CHAIN: ['Certificate is not trusted', 'tls_certificate_error'],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ['Certificate is not trusted', 'tls_certificate_error'],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ['Certificate is not trusted', 'tls_certificate_error'],
  ERR_TLS_CERT_ALTNAME_INVALID: ['Certificate is for another host', 'tls_certificate_error'],
  CERT_HAS_EXPIRED: ['Certificate has expired', 'tls_certificate_error']
}

/** Seconds of a `Retry-After` in either form (RFC 9110 section 10.2.3); undefined when it says nothing. */
export function retryAfterSeconds (value: string | undefined, now = Date.now()): number | undefined {
  if (value === undefined) return undefined
  const seconds = /^\d{1,9}$/.test(value.trim()) ? Number(value) : (Date.parse(value) - now) / 1000
  return Number.isFinite(seconds) ? Math.min(Math.max(0, seconds), 86_400) : undefined
}

/** What an upstream's status means when it is none of those that answer. */
export function statusError (instance: string, status: number, headers: IncomingHttpHeaders = {}): RegistryError {
  if (status === 401 || status === 403) {
    return registryError('auth_error', `Instance ${instance} refuses the registry's credentials`, { instance, details: 'Authentication failed', proxyError: 'destination_unavailable' })
  }
  const retryAfter = retryAfterSeconds(headers['retry-after'])
  const more = { instance, proxyError: 'destination_unavailable', ...(retryAfter !== undefined && { retryAfter }) }
  if (status === 429) return registryError('rate_limit', `Instance ${instance} limits the registry's requests`, { details: 'Too many requests', ...more })
  return registryError('service_unavailable', `Instance ${instance} cannot be asked`, { details: `Upstream answered with status ${status}`, ...more })
}

/** What a failed request means: an error of the table, whose message has no address and no secret. */
export function failureOf (instance: string, error: unknown): RegistryError {
  if (isRegistryError(error)) return error
  const code = error instanceof RequestError ? error.code : ''
  const givenUp = error instanceof Error && error.name === 'AbortError'
  const [details, proxyError] = error instanceof TimeoutError
    ? (error.event === 'response' || error.event === 'request' || error.event === 'socket' ? ['Response timeout', 'http_response_timeout'] as const : ['Connection timeout', 'connection_timeout'] as const)
    : error instanceof ReadError
      ? ['Answer is incomplete', 'http_response_incomplete'] as const
      : givenUp ? ['Request was given up', 'http_response_timeout'] as const : network[code] ?? ['Request failed', 'http_protocol_error'] as const
  return registryError('service_unavailable', `Instance ${instance} cannot be asked`, { instance, details, proxyError, cause: error })
}
