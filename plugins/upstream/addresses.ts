import type { LookupAddress, LookupOptions } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import ipaddr from 'ipaddr.js'

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
