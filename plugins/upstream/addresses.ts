import type { LookupAddress, LookupOptions } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import ipaddr from 'ipaddr.js'

/** Whether a socket may be connected to an address. */
export type Guard = (address: string) => boolean

/** Gives every address of a name, as `dns.lookup` does. */
export type Resolver = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void
) => void

/** Code of the error of a socket that was not connected, because no address of its host may be. */
export const prohibited = 'ERR_ADDRESS_PROHIBITED'

/** What is global unicast in IPv6 (RFC 4291 section 2.4, IANA): everything else is special or was never given out. */
const global = ipaddr.IPv6.parseCIDR('2000::/3')

/**
 * Whether an address is one of the open internet, that is global unicast: not loopback, private, shared, link-local
 * (where clouds keep their metadata), multicast, documentation, benchmarking or reserved, and none of the forms that
 * have an IPv4 address inside (mapped, compatible, NAT64, 6to4, Teredo), whatever that is. Only the plain form of an
 * address is one.
 */
export function isPublic (address: string): boolean {
  const family = isIP(address)
  if (family === 0) return false
  const parsed = ipaddr.parse(address)
  if (parsed.range() !== 'unicast') return false
  return parsed instanceof ipaddr.IPv4 || parsed.match(global)
}

/** A host of the configuration: `host` for each of its ports, or `host:port`. */
export function namesHost (hosts: readonly string[], { protocol, hostname, port }: URL): boolean {
  const withPort = `${hostname}:${port || (protocol === 'https:' ? '443' : '80')}`
  return hosts.some(host => [hostname, withPort].includes(host.toLowerCase()))
}

/**
 * The address that a URL names itself; such a host is never looked up. Its spelling, `0x7f.1` and the like, is already
 * made plain by `URL`.
 */
function literalAddress ({ hostname }: URL): string | undefined {
  const bare = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
  return isIP(bare) === 0 ? undefined : bare
}

/**
 * A lookup for sockets that gives only the addresses that `guard` lets pass, and fails with {@link prohibited} when
 * none is left. The checked address is the one that is connected to, so that a changing DNS response gains nothing.
 */
export function createLookup (guard: Guard, resolver: Resolver): LookupFunction {
  return (hostname, options, callback) => {
    resolver(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, [])
      const good = addresses.filter(({ address }) => guard(address))
      const [first] = good
      // No host and no address in the message.
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
  /** Hosts that the operator has named, which may be on any network. */
  named: readonly string[]
}

/**
 * Chooses the lookup for the host of an address: one that nobody named is found only on addresses that `guard` lets
 * pass. Undefined for a host that is such an address itself and may not be. A proxy finds the names itself, and is
 * found without this lookup.
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
 * An address below a base, whose path ends with a slash. Every part is encoded, so that nothing in a name can leave its
 * place; undefined when one would all the same: dots alone mean another place, however they are encoded. A colon may
 * stand in a path, and registries look for it in digests.
 */
export function pathBelow (base: URL, parts: readonly string[]): URL | undefined {
  if (parts.some(part => part === '.' || part === '..' || !part.isWellFormed())) return undefined
  // What begins with a dot and a slash is neither another host nor another scheme.
  return new URL(`./${parts.map(part => encodeURIComponent(part).replaceAll('%3A', ':')).join('/')}`, base)
}
