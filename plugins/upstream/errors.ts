import type { IncomingHttpHeaders } from 'node:http'
import { registryError, type RegistryError } from '../../lib/errors.ts'
import { retryAfterSeconds } from '../../lib/retry-after.ts'

/** Returns the error of a response with an unusable status: `auth_error`, `rate_limit` or `service_unavailable`. */
export function statusError (instance: string, status: number, headers: IncomingHttpHeaders = {}): RegistryError {
  if (status === 401 || status === 403) {
    return registryError('auth_error', `Instance ${instance} refuses the registry's credentials`, {
      instance,
      details: 'Authentication failed',
      proxyError: 'destination_unavailable',
      upstreamStatus: status
    })
  }
  const retryAfter = retryAfterSeconds(headers['retry-after'])
  const more = {
    instance,
    proxyError: 'destination_unavailable',
    upstreamStatus: status,
    ...(retryAfter !== undefined && { retryAfter })
  }
  if (status === 429) {
    return registryError('rate_limit', `Instance ${instance} limits the registry's requests`, {
      details: 'Too many requests',
      ...more
    })
  }
  return registryError('service_unavailable', `Instance ${instance} is unavailable`, {
    details: `Upstream responded with status ${status}`,
    ...more
  })
}

/** Returns the error of a request that was not sent or had no usable response. The message contains no address. */
export const unusable = (instance: string, details: string, proxyError: string): RegistryError =>
  registryError('service_unavailable', `Instance ${instance} is unavailable`, { instance, details, proxyError })
