import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import type { ErrorResponse } from '../schemas/error.ts'
import { parameterErrorOf, type ParameterError } from '../schemas/parameter-error.ts'

/** Errors of the API, each with its status and condition. The table in the documentation is generated from it. */
export const errorTable = {
  not_found: {
    status: 404,
    when: 'Every instance that could have the resource responded, and none has it; or the route is unknown'
  },
  invalid_type: { status: 400, when: '`type` (path or query) is not provider, taskserv or cluster' },
  invalid_version: { status: 400, when: 'The version is neither a semantic version nor `latest`' },
  invalid_request: {
    status: 400,
    when:
      'Any other invalid parameter, a query parameter that occurs more than once, or a malformed request. The status ' +
        'is 417 for an unknown `Expect` and 431 for headers that are too large'
  },
  auth_error: {
    status: 401,
    when:
      'The upstreams that could have the data refuse the credentials of the registry, and no cached data can be served'
  },
  method_not_allowed: {
    status: 405,
    when: 'The path exists, but does not support the method (`OPTIONS` and `TRACE` included); with `Allow`'
  },
  conflict: {
    status: 409,
    when:
      'The version was published again with different content, its first download had no published checksum, and ' +
        '`store.on_rerelease` is `refuse`'
  },
  precondition_failed: {
    status: 412,
    when: '`If-Match` does not name a current `ETag`, or the file was published after `If-Unmodified-Since`'
  },
  range_not_satisfiable: {
    status: 416,
    when: 'The `Range` of a download begins after the end of the file; with `Content-Range`'
  },
  rate_limit: {
    status: 429,
    when:
      'The client exceeded its rate limit, or the limit of an upstream is exceeded and no cached data can be served; ' +
        'with `Retry-After`'
  },
  config_error: { status: 500, when: 'The registry is misconfigured for this request' },
  internal_error: { status: 500, when: 'A bug in the registry' },
  service_unavailable: {
    status: 503,
    when:
      'An instance that could have the data is unavailable and no cached data can be served, or the registry is ' +
        'overloaded; with `Retry-After`'
  }
} as const

export type ErrorType = keyof typeof errorTable

export interface ErrorOptions {
  /** Underlying error; logged, never sent to the client. */
  cause?: unknown
  /** Value of `details` in the response. */
  details?: string
  /** Seconds until a retry is useful; sent as `Retry-After`. */
  retryAfter?: number
  /** Name of the instance that failed. */
  instance?: string
  /** Error type of the upstream (RFC 9209, section 2.3): `connection_refused`, `http_response_timeout`, … */
  proxyError?: string
  /** Status of the upstream's response, if it was an error; never sent to the client. */
  upstreamStatus?: number
  /** Size in bytes of the file that does not have the requested range; sent as `Content-Range`. */
  size?: number
  /** Status in place of that of the table, for an unknown `Expect` (417) or headers that are too large (431). */
  status?: 417 | 431
  /** Methods that the path supports; sent as `Allow`. */
  allow?: readonly string[]
}

/**
 * An error of {@link errorTable}. Its message is sent to the client, so it contains no address and no secret. Its
 * `cause` is the underlying error.
 */
export class RegistryError extends Error {
  override readonly name = 'RegistryError'
  /** Value of `error` in the response. */
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

/** Returns an error of the table, to be thrown. {@link errorHandler} sends it. */
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

/** Returns whether an error is the refusal of the registry's credentials by an upstream (401 or 403). */
export const isRefusal = (error: unknown): error is RegistryError =>
  isRegistryError(error) && error.code === 'auth_error'

/** Value of `Retry-After` in seconds for errors without their own. */
const defaultRetryAfter = 5

/** Names of the parts of a request in messages, by their names in Fastify. */
const parameterKinds: Record<string, string> = { params: 'path', querystring: 'query' }

/** A failed keyword of a schema. The option `verbose` of the compiler adds the value and the schema. */
type ValidationFailure = NonNullable<FastifyError['validation']>[number] & { data?: unknown, parentSchema?: object }

/** Returns the error that the schema of the failed or missing parameter defines; undefined without such an error. */
function statedError ({ keyword, params, parentSchema }: ValidationFailure): ParameterError | undefined {
  const { properties } = (parentSchema ?? {}) as { properties?: Record<string, object> }
  const stated = parameterErrorOf(
    keyword === 'required' ? properties?.[String(params.missingProperty)] : parentSchema
  )
  return stated?.keyword === undefined || stated.keyword === keyword ? stated : undefined
}

/** Returns the expected form of a value that its schema does not allow, in words. */
function expectation ({ keyword, params, message }: ValidationFailure): string {
  if (Array.isArray(params.allowedValues)) return `must be one of ${params.allowedValues.join(', ')}`
  if (keyword === 'pattern') return 'has characters or a form that are not allowed'
  return message ?? 'is not valid'
}

/** Returns the error of a refused request: the one that the schema of its parameter defines, or a general one. */
function fromValidation ({ validation = [], validationContext: part }: FastifyError): RegistryError {
  const kind = part === undefined ? 'request' : parameterKinds[part] ?? part
  const [failure] = validation as ValidationFailure[]
  if (failure === undefined) return registryError('invalid_request', `Invalid ${kind} parameter : is not valid`)
  const name = failure.instancePath.split('/')[1] ?? String(failure.params.missingProperty ?? '')
  const stated = statedError(failure)
  // The value of a repeated parameter is an array. It is refused, because proxies and clients use different items.
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

/** Returns the error of the table for any thrown value. */
export function toRegistryError (error: unknown): RegistryError {
  if (isRegistryError(error)) return error
  const thrown = error as Partial<FastifyError>
  if (Array.isArray(thrown.validation)) return fromValidation(thrown as FastifyError)
  const status = thrown.statusCode ?? 500
  if (status === 404) return registryError('not_found', 'Not found', { cause: error })
  // Plugins of a host, and the plugin that serves the files of Swagger UI, throw errors with these statuses.
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
 * Returns the name of an instance as a member of `Proxy-Status` or `Cache-Status`: a token of RFC 9651, or a string if
 * the name is not a valid token.
 */
export const proxyMember = (instance: string): string => /^[a-z]/.test(instance) ? instance : `"${instance}"`

/** Returns the status, headers and body of the response for an error. */
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

/** Headers that describe a successful response, and that an error must not have. Other headers may be the host's. */
const ofAResponse = [
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

/** Sends the response for any error, and logs the details that it does not contain. */
export function errorHandler (thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const error = toRegistryError(thrown)
  if (error.code === 'internal_error' || error.code === 'config_error') {
    request.log.error({ err: thrown }, error.message)
  } else if (error.statusCode >= 500) request.log.warn({ err: error }, error.message)
  const { status, headers, body } = envelope(error)
  // These headers describe the response that the error replaces, so they would be wrong.
  for (const name of ofAResponse) reply.removeHeader(name)
  return reply.code(status).type('application/json; charset=utf-8').headers(headers).send(body)
}
