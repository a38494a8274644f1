import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import ipaddr from 'ipaddr.js'

/** Keys of `server` that define the trusted proxies. */
export interface ProxyTrust { trust_proxy?: boolean | undefined, trusted_proxies?: readonly string[] | undefined }

/**
 * Returns the address of an item of `X-Forwarded-For`. The item may have a port, brackets and quotes:
 * `203.0.113.1:1111`, `[2001:db8::1]:443`. Returns undefined for an item without an address, such as `unknown`.
 */
export function parseForwarded (item: string): string | undefined {
  const bare = item.trim().replace(/^"(.*)"$/, '$1').trim()
  const [, bracketed, dotted] = /^(?:\[([^\]]*)\]|([\d.]+))(?::\d{1,5})?$/.exec(bare) ?? []
  const address = bracketed ?? dotted ?? bare
  return isIP(address) === 0 ? undefined : address
}

/**
 * Removes the zone of an IPv6 address (RFC 4007). A zone is local to one machine, so networks and clients are compared
 * without it.
 */
export const withoutZone = (address: string): string => address.replace(/%.*$/, '')

/** Returns a network in the form that ipaddr.js compares; an IPv4 network in IPv6 notation becomes an IPv4 network. */
function parseNetwork (text: string): [ipaddr.IPv4 | ipaddr.IPv6, number] {
  if (!text.includes('/')) {
    const address = ipaddr.process(text)
    return [address, address.kind() === 'ipv4' ? 32 : 128]
  }
  const [address, bits] = ipaddr.parseCIDR(text)
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() && bits >= 96
    ? [address.toIPv4Address(), bits - 96]
    : [address, bits]
}

/**
 * Returns the value of Fastify's `trustProxy`. It compares only the address of an item of `X-Forwarded-For`; Fastify's
 * own comparison never trusts an item with a port.
 */
export function trustProxy (
  { trust_proxy: trusted = false, trusted_proxies: proxies = [] }: ProxyTrust
): boolean | ((address: string) => boolean) {
  if (!trusted || proxies.length === 0) return trusted
  const networks = proxies.map(parseNetwork)
  return item => {
    // A closed socket has no address.
    const text = parseForwarded(item ?? '')
    if (text === undefined) return false
    // ipaddr.js rejects zones that Node.js accepts.
    const address = ipaddr.process(withoutZone(text))
    return networks.some(([network, bits]) => network.kind() === address.kind() && address.match(network, bits))
  }
}

/** Parts of a request that determine the address of its client. `ips` is present when a proxy is trusted. */
export type ClientRequest = Pick<FastifyRequest, 'ip'> & Partial<Pick<FastifyRequest, 'ips'>> & {
  socket: Pick<FastifyRequest['socket'], 'remoteAddress'>
}

/**
 * Returns the address of the client of a request, for the log and the rate limit. Behind trusted proxies it is the
 * farthest address that they report; an item without an address is skipped. Returns an empty string when the connection
 * is closed.
 */
export function clientAddress ({ ip, ips, socket }: ClientRequest): string {
  // Without a trusted proxy it is the address of the connection.
  if (ips === undefined && ip === socket?.remoteAddress) return ip ?? ''
  const reported = ips ?? [ip]
  for (let at = reported.length - 1; at >= 0; at--) {
    const address = parseForwarded(reported[at] ?? '')
    if (address !== undefined) return address
  }
  return socket?.remoteAddress ?? ''
}
