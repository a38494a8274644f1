import { lookup } from 'node:dns'
import type { LookupFunction } from 'node:net'
import type { RegistryError } from '../../lib/errors.ts'
import { createGate, isPublic, pathBelow } from './addresses.ts'
import { unusable } from './errors.ts'
import type { UpstreamDependencies, UpstreamOptions } from './options.ts'

/**
 * Creates the functions for the addresses of one instance: addresses below its base, lookups of hosts, and credentials.
 * Messages of errors contain no address.
 */
export function createOrigin (
  { guard = isPublic, resolver = lookup }: Pick<UpstreamDependencies, 'guard' | 'resolver'>,
  options: UpstreamOptions
) {
  const base = new URL(options.url.endsWith('/') ? options.url : `${options.url}/`)
  const findHost = createGate({
    guard,
    resolver,
    named: [base.host, ...options.redirectHosts, ...options.namedHosts ?? []]
  })

  const unexpected = (details: string, proxyError: string): RegistryError =>
    unusable(options.instance, details, proxyError)

  /** Returns an address below the base. Throws for a part that leads elsewhere. */
  function address (parts: readonly string[], query: Record<string, string | number> = {}): URL {
    const url = pathBelow(base, parts)
    if (url === undefined) throw unexpected('A name is not valid in an address', 'http_protocol_error')
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, String(value))
    return url
  }

  /** Returns the lookup for the host of an address. Throws for an address that is not allowed. */
  function lookupOf (url: URL): LookupFunction {
    const found = findHost(url)
    if (found === undefined) {
      throw unexpected('Host is on a private network and is not configured', 'destination_ip_prohibited')
    }
    return found
  }

  /**
   * Returns the header with the credentials for an address. Credentials of the request are sent only to the origin of
   * its first address `start`, and those of the instance only to its own origin.
   */
  async function credentials (target: URL, start: URL, given: string | undefined): Promise<Record<string, string>> {
    const own = given === undefined ? base : start
    const authorization = target.origin === own.origin ? given ?? await options.authorization?.() : undefined
    return authorization === undefined ? {} : { authorization }
  }

  return { base, address, lookupOf, credentials, unexpected }
}
export type Origin = ReturnType<typeof createOrigin>
