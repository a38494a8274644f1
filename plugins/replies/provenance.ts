import { proxyMember, type RegistryError } from '../../lib/errors.ts'

/** An instance that an answer does without, or has only older entries of, and why. */
export interface Mark { instance: string, error: RegistryError | undefined }

/** A value with what is known about where it comes from. */
export interface Answer<T> {
  value: T
  /** Seconds since the upstreams said so; of several, the oldest. */
  age: number
  /** Seconds that it stays fresh; 0 when stale or partial. */
  ttl: number
  /** Whether no upstream was waited for. */
  hit: boolean
  /** Instances whose older entries stand in. */
  stale: Mark[]
  /** Instances whose entries are missing. */
  missing: Mark[]
}

const cacheName = 'extension-registry'

/** What every answer of the catalog says about itself (RFC 9111, RFC 9209, RFC 9211). */
export function provenance (
  { age, ttl, hit, stale, missing }: Answer<unknown>,
  staleIfError: number
): Record<string, string> {
  const whole = stale.length === 0 && missing.length === 0
  const left = String(whole ? Math.floor(ttl) : 0)
  const ours = `${cacheName}; ${hit ? 'hit' : 'fwd=miss'}; ttl=${left}`
  const headers: Record<string, string> = {
    // A cache downstream subtracts Age from max-age, so that what is left is ttl.
    'cache-control': whole ? `public, max-age=${Math.round(age + ttl)}, stale-if-error=${staleIfError}` : 'no-cache',
    age: String(Math.floor(age)),
    'x-cache-hit': hit ? 'true' : 'false',
    'x-cache-ttl': left,
    'cache-status': whole
      ? ours
      : [...stale.map(({ instance }) => `${proxyMember(instance)}; hit; detail=stale`), ours].join(', ')
  }
  if (whole) return headers
  const failed = [...stale, ...missing].flatMap(({ instance, error }) =>
    error === undefined ? [] : [`${proxyMember(instance)}; error=${error.proxyError ?? 'proxy_internal_response'}`]
  )
  if (missing.length > 0) headers['x-partial'] = missing.map(({ instance }) => instance).join(', ')
  if (failed.length > 0) headers['proxy-status'] = failed.join(', ')
  return headers
}
