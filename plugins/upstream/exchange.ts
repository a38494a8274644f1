import type { Readable } from 'node:stream'
import { ReadError, RequestError, TimeoutError, type Response, type RetryFunction } from 'got'
import pLimit from 'p-limit'
import { isRegistryError, registryError, type RegistryError } from '../../lib/errors.ts'
import { createPause, maxWaitMs, retryAfterSeconds } from '../../lib/retry-after.ts'
import { prohibited } from './addresses.ts'
import { statusError } from './errors.ts'

export interface UpstreamRequest {
  /** Request method; GET if unset. */
  method?: 'GET' | 'HEAD'
  accept?: string
  /**
   * Value of `Authorization` in place of the instance's own. It is sent only to the origin of the first request, never
   * to another origin after a redirect.
   */
  authorization?: string
  signal?: AbortSignal
  /** Offset of the first byte. An upstream may send the whole file (200) nevertheless. */
  offset?: number
  /** Whether the request bypasses the queue of a crawl; if unset, true when there is a signal. */
  urgent?: boolean
}

export type ResponseHeaders = Response['headers']

/** Status and headers of one response, which may be a redirect. */
export interface ResponseHead {
  statusCode: number
  headers: ResponseHeaders
}

/** A response that is not a redirect, and its address. */
export interface UpstreamResponse {
  url: URL
  status: number
  headers: ResponseHeaders
}

/** A response whose body is read as it arrives. It has a body only if the status is 200, or 206 for an offset. */
export type StreamResponse = UpstreamResponse & { stream?: Readable }

/** Retries that each request adds to the budget: on average one retry for five requests. */
const retriesPerRequest = 0.2
/** Maximum number of retries in the budget. */
const maxRetries = 10

/** Creates the retry budget of an instance. It limits the load that retries add to an overloaded upstream. */
export function createRetryBudget () {
  let retries = maxRetries
  return {
    /** Adds the retries of one request. */
    add (): void { retries = Math.min(maxRetries, retries + retriesPerRequest) },
    /** Takes one retry. Returns false, and takes nothing, when less than one retry remains. */
    take (): boolean {
      if (retries < 1) return false
      retries--
      return true
    }
  }
}
export type RetryBudget = ReturnType<typeof createRetryBudget>

/** Runs work as soon as the queue allows it. Throws `service_unavailable` when the queue is full. */
export type Queue = <T>(work: () => Promise<T>) => Promise<T>

/**
 * Creates a queue that runs `concurrency` requests at once and holds `waiting` more. The error of a full queue is not
 * an error of the upstream, so the circuit breaker does not count it.
 */
export function createQueue (
  { instance, concurrency, waiting = 1000 }: { instance: string, concurrency: number, waiting?: number }
): Queue {
  const limit = pLimit(concurrency)
  return async <T>(work: () => Promise<T>): Promise<T> => {
    if (limit.pendingCount >= waiting) {
      throw registryError('service_unavailable', `Instance ${instance} is unavailable`, {
        instance,
        details: 'Too many requests are queued',
        retryAfter: 1,
        proxyError: 'connection_limit_reached'
      })
    }
    return await limit(work)
  }
}

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

/** Observes each request to an upstream. `status` is an HTTP status, or `error` without a response. */
export type UpstreamObserver = (instance: string, status: string, seconds: number) => void

export interface ExchangeOptions {
  instance: string
  observe: UpstreamObserver | undefined
  random: () => number
  clock: () => number
}

/**
 * Creates the pause and the retries of one instance, which all its requests share. A `Retry-After` applies to every
 * request, including those of a crawl in progress. The circuit breaker cannot do this, because it counts a crawl as one
 * request.
 */
export function createExchange ({ instance, observe, random, clock }: ExchangeOptions) {
  const retryBudget = createRetryBudget()
  const pause = createPause(clock)
  /** Status of the last response that began a pause. */
  let pausingStatus = 503

  function obey ({ statusCode, headers }: ResponseHead): void {
    const seconds = statusCode === 429 || statusCode === 503 ? retryAfterSeconds(headers['retry-after']) : undefined
    if (seconds === undefined) return
    pause.begin(seconds)
    pausingStatus = statusCode
  }

  /** Returns the milliseconds before the next attempt of a request; 0 ends the attempts. */
  const retryDelay: RetryFunction = ({ computedValue, retryAfter, attemptCount, error }) => {
    // A timeout is not retried, because its request has already used its time.
    if (computedValue === 0 || error instanceof TimeoutError || (retryAfter ?? 0) > maxWaitMs) return 0
    if (!retryBudget.take()) return 0
    if (retryAfter !== undefined && error.response !== undefined) obey(error.response)
    return retryAfter ?? Math.ceil(100 * 2 ** attemptCount * (0.5 + random() / 2))
  }

  /**
   * Sends a request when no pause is in progress, and observes its result. Throws the error of {@link failureOf}, or
   * the error of a long pause.
   */
  async function send<T extends ResponseHead> (request: () => Promise<T>): Promise<T> {
    await pause.over(left => statusError(instance, pausingStatus, { 'retry-after': String(Math.ceil(left)) }))
    retryBudget.add()
    const started = performance.now()
    const report = (status: string) => observe?.(instance, status, (performance.now() - started) / 1000)
    try {
      const response = await request()
      report(String(response.statusCode))
      obey(response)
      return response
    } catch (error) {
      if (!(error instanceof Error && error.name === 'AbortError')) report('error')
      throw failureOf(instance, error)
    }
  }

  return { send, retryDelay, takeRetry: () => retryBudget.take() }
}
export type Exchange = ReturnType<typeof createExchange>
