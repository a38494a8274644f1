import type { IncomingHttpHeaders } from 'node:http'
import { registryError, type RegistryError } from '../../lib/errors.ts'

/** Seconds of a `Retry-After` in either form (RFC 9110 section 10.2.3); undefined when it says nothing. */
export function retryAfterSeconds (value: string | undefined, now = Date.now()): number | undefined {
  if (value === undefined) return undefined
  const seconds = /^\d{1,9}$/.test(value.trim()) ? Number(value) : (Date.parse(value) - now) / 1000
  return Number.isFinite(seconds) ? Math.min(Math.max(0, seconds), 86_400) : undefined
}

/** What an upstream's status means when it is none of those that answer. */
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
  return registryError('service_unavailable', `Instance ${instance} cannot be asked`, {
    details: `Upstream answered with status ${status}`,
    ...more
  })
}
