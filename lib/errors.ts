import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import type { ErrorResponse } from '../schemas/error.ts'
import { parameterErrorOf, type ParameterError } from '../schemas/parameter-error.ts'

/**
 * Every kind of error that leaves the registry: its status, and when it is answered. The documentation's table is made
 * of this.
 */
export const errorTable = {
  not_found: { status: 404, when: 'Every instance that could own it answered and none has it; an unknown route' },
  invalid_type: { status: 400, when: '`type` (path or query) is not provider, taskserv or cluster' },
  invalid_version: { status: 400, when: 'The version is no semantic version, nor `latest`' },
  invalid_request: {
    status: 400,
    when:
      'Any other bad parameter, a query parameter that is given more than once, or a request that cannot be ' +
        'understood; with status 417 for an unknown `Expect`, with 431 for headers that are too large'
  },
  auth_error: {
    status: 401,
    when: "The upstreams that could answer refuse the registry's own credentials, and nothing cached stands in"
  },
  method_not_allowed: {
    status: 405,
    when: 'The path exists, but not for the method of the request, `OPTIONS` and `TRACE` included; with `Allow`'
  },
  conflict: {
    status: 409,
    when: 'The version was published again with different content, and `store.on_rerelease` is refuse'
  },
  precondition_failed: {
    status: 412,
    when: '`If-Match` does not name a current `ETag`, or the file was published after `If-Unmodified-Since`'
  },
  range_not_satisfiable: {
    status: 416,
    when: 'The `Range` of a download begins behind the end of the file; with `Content-Range`'
  },
  rate_limit: {
    status: 429,
    when:
      "The client asks more often than is configured here, or the upstream's limit is exceeded and nothing cached " +
        'stands in; with `Retry-After`'
  },
  config_error: { status: 500, when: 'The registry is misconfigured for this request' },
  internal_error: { status: 500, when: 'A bug in the registry' },
  service_unavailable: {
    status: 503,
    when:
      'An instance that could own the answer cannot be asked, and nothing cached may stand in; or the registry has ' +
        'more to do than it can; with `Retry-After`'
  }
} as const

export type ErrorType = keyof typeof errorTable

export interface ErrorOptions {
  /** What happened underneath; logged, never answered. */
  cause?: unknown
  /** Answered as `details`. */
  details?: string
  /** Seconds after which asking again makes sense; answered as `Retry-After`. */
  retryAfter?: number
  /** The instance that failed. */
  instance?: string
  /**
   * What went wrong upstream, in the words of RFC 9209 section 2.3: `connection_refused`, `http_response_timeout`, …
   */
  proxyError?: string
  /** Status of the upstream's response, when it was an error; never answered. */
  upstreamStatus?: number
  /** Bytes of the file that has no such range; answered as `Content-Range`. */
  size?: number
  /** Status instead of the table's, where HTTP has one of its own: unknown `Expect`, headers that are too large. */
  status?: 417 | 431
  /** Methods that the path is served for; sent as `Allow`. */
  allow?: readonly string[]
}

/**
 * An error of {@link errorTable}. Its message is for the client, so it names no address and no secret; what happened
 * underneath is its `cause`.
 */
export class RegistryError extends Error {
  override readonly name = 'RegistryError'
  /** The `error` of the envelope. */
  readonly code: ErrorType
  readonly statusCode: number
  readonly details?: string
  readonly retryAfter?: number
  readonly instance?: string
  readonly proxyError?: string
  readonly upstreamStatus?: number
  readonly size?: number
  readonly allow?: readonly string[]

  constructor (code: ErrorType, message: string, { cause, status, ...rest }: ErrorOptions = {}) {
    super(message, cause === undefined ? {} : { cause })
    this.code = code
    this.statusCode = status ?? errorTable[code].status
    Object.assign(this, rest)
  }
}

/** Makes an error of the table, to be thrown anywhere; it is answered in one place. */
export const registryError = (type: ErrorType, message: string, options?: ErrorOptions): RegistryError =>
  new RegistryError(type, message, options)

/** Returns the error of a request whose condition does not hold (RFC 9110, section 13.2.2). */
export const preconditionFailed = (header: 'If-Match' | 'If-Unmodified-Since'): RegistryError =>
  registryError(
    'precondition_failed',
    header === 'If-Match'
      ? 'If-Match does not name the current entity tag of the resource'
      : 'The file was published after the date in If-Unmodified-Since'
  )

export const isRegistryError = (error: unknown): error is RegistryError => error instanceof RegistryError

/** Returns whether an error says that an upstream refuses the registry's credentials (401 or 403). */
export const isRefusal = (error: unknown): error is RegistryError =>
  isRegistryError(error) && error.code === 'auth_error'

/** Seconds that a client is asked to wait when nothing better is known. */
const defaultRetryAfter = 5

/** Names of the parts of a request in messages, by Fastify's names. */
const parameterKinds: Record<string, string> = { params: 'path', querystring: 'query' }

/** A failed keyword of a schema. The value and the schema are present because the compiler has the option `verbose`. */
type ValidationFailure = NonNullable<FastifyError['validation']>[number] & { data?: unknown, parentSchema?: object }

/** Returns the error that the schema of the failed parameter states. A missing parameter has no value to fail. */
function statedError ({ keyword, params, parentSchema }: ValidationFailure): ParameterError | undefined {
  const { properties } = (parentSchema ?? {}) as { properties?: Record<string, object> }
  const stated = parameterErrorOf(
    keyword === 'required' ? properties?.[String(params.missingProperty)] : parentSchema
  )
  return stated?.keyword === undefined || stated.keyword === keyword ? stated : undefined
}

/** Returns what a value that its schema does not allow should have been. */
function expectation ({ keyword, params, message }: ValidationFailure): string {
  if (Array.isArray(params.allowedValues)) return `must be one of ${params.allowedValues.join(', ')}`
  if (keyword === 'pattern') return 'has characters or a form that are not allowed'
  return message ?? 'is not valid'
}

/** Returns the error of a refused request: the one that the schema of its parameter states, or else a general one. */
function fromValidation ({ validation = [], validationContext: part }: FastifyError): RegistryError {
  const kind = part === undefined ? 'request' : parameterKinds[part] ?? part
  const [failure] = validation as ValidationFailure[]
  if (failure === undefined) return registryError('invalid_request', `Invalid ${kind} parameter : is not valid`)
  const name = failure.instancePath.split('/')[1] ?? String(failure.params.missingProperty ?? '')
  const stated = statedError(failure)
  // A query lists the values of a repeated parameter. None of them is preferred: proxies and clients disagree about
  // which one counts.
  if (kind === 'query' && Array.isArray(failure.data)) {
    return registryError(
      stated?.code ?? 'invalid_request',
      `Invalid query parameter ${name}: given more than once`
    )
  }
  if (stated !== undefined) return registryError(stated.code, stated.message)
  return registryError(
    'invalid_request',
    failure.keyword === 'required'
      ? `Missing ${kind} parameter ${name}`
      : `Invalid ${kind} parameter ${name}: ${expectation(failure)}`
  )
}

/** What is answered for any error: one of the table's, whatever was thrown. */
export function toRegistryError (error: unknown): RegistryError {
  if (isRegistryError(error)) return error
  const thrown = error as Partial<FastifyError>
  if (Array.isArray(thrown.validation)) return fromValidation(thrown as FastifyError)
  const status = thrown.statusCode ?? 500
  if (status === 404) return registryError('not_found', 'Not found', { cause: error })
  // What plugins refuse with: those of a host, and the one that serves the files of Swagger UI.
  if (status === 412) return registryError('precondition_failed', 'Precondition failed', { cause: error })
  if (status === 416) return registryError('range_not_satisfiable', 'The file has no such range', { cause: error })
  if (status === 429) return registryError('rate_limit', 'Too many requests', { cause: error })
  if (status === 503) return registryError('service_unavailable', 'Service unavailable', { cause: error })
  if (status >= 400 && status < 500) {
    return registryError('invalid_request', thrown.message ?? 'Bad request', { cause: error })
  }
  return registryError('internal_error', 'Internal server error', { cause: error })
}

/**
 * An instance's name as a member of `Proxy-Status` or `Cache-Status`: an RFC 9651 token, or a string where it cannot be
 * one.
 */
export const proxyMember = (instance: string): string => /^[a-z]/.test(instance) ? instance : `"${instance}"`

/** The envelope of an error, and the headers that go with it. */
export function envelope (
  error: RegistryError
): { status: number, headers: Record<string, string>, body: ErrorResponse } {
  const headers: Record<string, string> = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }
  if (error.statusCode === 503 || error.retryAfter !== undefined) {
    headers['retry-after'] = String(Math.max(1, Math.ceil(error.retryAfter ?? defaultRetryAfter)))
  }
  if (error.size !== undefined) headers['content-range'] = `bytes */${error.size}`
  if (error.allow !== undefined) headers['allow'] = error.allow.join(', ')
  if (error.instance !== undefined) {
    headers['proxy-status'] = `${proxyMember(error.instance)}; error=${error.proxyError ?? 'proxy_internal_response'}`
  }
  return {
    status: error.statusCode,
    headers,
    body: {
      error: error.code,
      message: error.message,
      ...(error.details === undefined ? {} : { details: error.details })
    }
  }
}

/** Headers that say something of an answer which an error takes the place of; others may be the host's. */
const ofAnAnswer = [
  'etag',
  'age',
  'cache-control',
  'cache-status',
  'proxy-status',
  'x-cache-hit',
  'x-cache-ttl',
  'x-partial',
  'x-total-count',
  'link',
  'location',
  'content-disposition',
  'content-encoding',
  'content-length',
  'content-type',
  'content-range',
  'accept-ranges',
  'last-modified',
  'repr-digest'
]

/** Answers any error in the one envelope, and logs what the client is not told. */
export function errorHandler (thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const error = toRegistryError(thrown)
  if (error.code === 'internal_error' || error.code === 'config_error') {
    request.log.error({ err: thrown }, error.message)
  } else if (error.statusCode >= 500) request.log.warn({ err: error }, error.message)
  const { status, headers, body } = envelope(error)
  // What was said of an answer that did not come about is not true of this one.
  for (const name of ofAnAnswer) reply.removeHeader(name)
  return reply.code(status).type('application/json; charset=utf-8').headers(headers).send(body)
}
