import { proxyMember } from '../../lib/errors.ts'
import type { Result } from '../../lib/result.ts'

const cacheName = 'extension-registry'

/** Returns the headers that describe the origin of a response: RFC 9111, RFC 9209 and RFC 9211. */
export function provenance (
  { age, ttl, hit, stale, missing }: Result<unknown>,
  staleIfError: number
): Record<string, string> {
  const whole = stale.length === 0 && missing.length === 0
  const left = String(whole ? Math.floor(ttl) : 0)
  const ours = `${cacheName}; ${hit ? 'hit' : 'fwd=miss'}; ttl=${left}`
  const headers: Record<string, string> = {
    // A downstream cache subtracts `Age` from `max-age`, so that `ttl` remains.
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
