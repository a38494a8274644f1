import { ReadError, RequestError, TimeoutError } from 'got'
import { isRegistryError, registryError, type RegistryError } from '../../lib/errors.ts'
import { prohibited } from './addresses.ts'

/** Returns the error of a request that was not sent or had no usable response. The message contains no address. */
export const unusable = (instance: string, details: string, proxyError: string): RegistryError =>
  registryError('service_unavailable', `Instance ${instance} is unavailable`, { instance, details, proxyError })

/** Descriptions and the error types of RFC 9209, section 2.3, by error code. */
const network: Record<string, readonly [string, string]> = {
  ECONNREFUSED: ['Connection refused', 'connection_refused'],
  ECONNRESET: ['Connection reset', 'connection_terminated'],
  EPIPE: ['Connection reset', 'connection_terminated'],
  ENOTFOUND: ['Host not found', 'dns_error'],
  EAI_AGAIN: ['Host not found', 'dns_error'],
  EHOSTUNREACH: ['Host unreachable', 'destination_ip_unroutable'],
  ENETUNREACH: ['Network unreachable', 'destination_ip_unroutable'],
  [prohibited]: ['Host is on a private network and is not configured', 'destination_ip_prohibited'],
  ETIMEDOUT: ['Connection timeout', 'connection_timeout'],
  ERR_PROXY_TUNNEL: ['Proxy refuses the connection', 'destination_unavailable'],
  HPE_INVALID_CONSTANT: ['Response is not HTTP', 'http_protocol_error'],
  DEPTH_ZERO_SELF_SIGNED_CERT: ['Certificate is not trusted', 'tls_certificate_error'],
  SELF_SIGNED_CERT_IN_CHAIN: ['Certificate is not trusted', 'tls_certificate_error'],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ['Certificate is not trusted', 'tls_certificate_error'],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ['Certificate is not trusted', 'tls_certificate_error'],
  CERT_SIGNATURE_FAILURE: ['Certificate is not trusted', 'tls_certificate_error'],
  CERT_NOT_YET_VALID: ['Certificate is not valid yet', 'tls_certificate_error'],
  ERR_TLS_CERT_ALTNAME_INVALID: ['Certificate is for another host', 'tls_certificate_error'],
  CERT_HAS_EXPIRED: ['Certificate has expired', 'tls_certificate_error']
}

/** Returns the error of a failed request. Its message contains neither address nor secret. */
export function failureOf (instance: string, error: unknown): RegistryError {
  if (isRegistryError(error)) return error
  const code = error instanceof RequestError ? error.code : ''
  const givenUp = error instanceof Error && error.name === 'AbortError'
  const [details, proxyError] = error instanceof TimeoutError
    ? (error.event === 'response' || error.event === 'request' || error.event === 'socket'
        ? ['Response timeout', 'http_response_timeout'] as const
        : ['Connection timeout', 'connection_timeout'] as const)
    : error instanceof ReadError
      ? ['Response is incomplete', 'http_response_incomplete'] as const
      : givenUp
        ? ['Request was given up', 'http_response_timeout'] as const
        : network[code] ?? ['Request failed', 'http_protocol_error'] as const
  return registryError('service_unavailable', `Instance ${instance} is unavailable`, {
    instance,
    details,
    proxyError,
    cause: error
  })
}
