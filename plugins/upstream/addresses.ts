import { lookup, type LookupAddress, type LookupOptions } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import ipaddr from 'ipaddr.js'
import type { RegistryError } from '../../lib/errors.ts'
import type { Secret } from '../../lib/secret.ts'
import { unusable } from './errors.ts'

/** Returns whether a socket may connect to an address. */
export type Guard = (address: string) => boolean

/** Resolves a name to all of its addresses, as `dns.lookup` does. */
export type Resolver = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void
) => void

/** Error code of a connection that was refused, because no address of its host is allowed. */
export const prohibited = 'ERR_ADDRESS_PROHIBITED'

/** Global unicast addresses of IPv6 (RFC 4291, section 2.4, IANA); all others are special or not assigned. */
const global = ipaddr.IPv6.parseCIDR('2000::/3')

/**
 * Returns whether an address is public, that is global unicast. Loopback, private, shared, link-local (metadata
 * services of clouds), multicast, documentation, benchmarking and reserved addresses are not public. IPv6 forms that
 * contain an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo) are never public. Text that is not an address in
 * its standard notation is not public.
 */
export function isPublic (address: string): boolean {
  const family = isIP(address)
  if (family === 0) return false
  const parsed = ipaddr.parse(address)
  if (parsed.range() !== 'unicast') return false
  return parsed instanceof ipaddr.IPv4 || parsed.match(global)
}

/**
 * Returns whether a list of hosts contains the host of a URL. An entry is `host`, for all of its ports, or `host:port`.
 */
export function namesHost (hosts: readonly string[], { protocol, hostname, port }: URL): boolean {
  const withPort = `${hostname}:${port || (protocol === 'https:' ? '443' : '80')}`
  return hosts.some(host => [hostname, withPort].includes(host.toLowerCase()))
}

/**
 * Returns the address in a URL, which is never resolved; undefined for a host name. `URL` has already normalized
 * notations such as `0x7f.1`.
 */
function literalAddress ({ hostname }: URL): string | undefined {
  const bare = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
  return isIP(bare) === 0 ? undefined : bare
}

/**
 * Creates a lookup for sockets that returns only addresses that `guard` allows. It fails with {@link prohibited} when
 * none is allowed. The socket connects to the checked address, so a changing DNS response does not bypass the check.
 */
export function createLookup (guard: Guard, resolver: Resolver): LookupFunction {
  return (hostname, options, callback) => {
    resolver(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, [])
      const good = addresses.filter(({ address }) => guard(address))
      const [first] = good
      // The message contains neither host nor address.
      if (first === undefined) {
        return callback(
          Object.assign(new Error('No address of the host may be connected to'), { code: prohibited }),
          []
        )
      }
      if (options.all === true) callback(null, good)
      else callback(null, first.address, first.family)
    })
  }
}

export interface GateOptions {
  guard: Guard
  resolver: Resolver
  /** Hosts of the configuration, which may be on any network. */
  named: readonly string[]
}

/**
 * Creates a function that returns the lookup for the host of a URL. Hosts that are not configured may only have
 * addresses that `guard` allows. Returns undefined for a URL with an address that is not allowed. A proxy resolves
 * names itself, and its own name is resolved without this lookup.
 */
export function createGate ({ guard, resolver, named }: GateOptions): (url: URL) => LookupFunction | undefined {
  const anywhere = createLookup(() => true, resolver)
  const guarded = createLookup(guard, resolver)
  return url => {
    if (namesHost(named, url)) return anywhere
    const literal = literalAddress(url)
    return literal === undefined || guard(literal) ? guarded : undefined
  }
}

/**
 * Returns an address below a base, whose path ends with a slash. Every part is encoded, so that no name can lead
 * outside the base. Returns undefined for dot segments, which lead elsewhere even when encoded. A colon is not encoded,
 * because registries expect it in digests.
 */
export function pathBelow (base: URL, parts: readonly string[]): URL | undefined {
  if (parts.some(part => part === '.' || part === '..' || !part.isWellFormed())) return undefined
  // With a leading `./`, the reference contains neither another host nor another scheme.
  return new URL(`./${parts.map(part => encodeURIComponent(part).replaceAll('%3A', ':')).join('/')}`, base)
}

/** Functions that decide on connections to hosts. */
export interface HostDependencies {
  /** Returns whether an address is allowed for hosts that are not configured; only public addresses if unset. */
  guard?: Guard
  /** Resolver of host names; `dns.lookup` if unset. */
  resolver?: Resolver
}

export interface OriginOptions {
  instance: string
  /** Base address; paths are appended to it. */
  url: string
  /** Value of `Authorization`, sent only to the origin of `url`; absent when each request has its own. */
  authorization?: Secret
  /** Other hosts (`host` or `host:port`) that redirects may lead to, without credentials. */
  redirectHosts: readonly string[]
  /** Other configured hosts, beside `url` and `redirectHosts`, which may be on any network. */
  namedHosts?: readonly string[]
}

/**
 * Creates the functions for the addresses of one instance: addresses below its base, lookups of hosts, and credentials.
 * Messages of errors contain no address.
 */
export function createOrigin (
  { guard = isPublic, resolver = lookup }: HostDependencies,
  options: OriginOptions
) {
  const base: URL = new URL(options.url.endsWith('/') ? options.url : `${options.url}/`)
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
