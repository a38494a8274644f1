import { isIP, isIPv6 } from 'node:net'
import { domainToASCII } from 'node:url'

/**
 * Returns a host name in the form that DNS and URLs use: lower case and ASCII. Returns undefined for text that is not a
 * host name, and for text whose last part is a number, which URLs parse as an address. Underscores are allowed, as in
 * names of containers.
 */
export function hostName (text: string): string | undefined {
  const name = /^[\x21-\x7e]*$/.test(text) ? text.toLowerCase() : domainToASCII(text)
  const labels = name.split('.')
  const valid = name.length <= 253 && labels.every(label => /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label))
  return valid && !/^(?:\d+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? '') ? name : undefined
}

/**
 * Returns a host to listen on in the form that the system expects: a host name or an address. An IPv6 address loses the
 * brackets of a URL. Returns undefined for other text.
 */
export function listenHost (text: string): string | undefined {
  const bare = text.replace(/^\[(.*)\]$/, '$1')
  if (bare !== text) return isIPv6(bare) ? bare : undefined
  return isIP(text) === 0 ? hostName(text.replace(/\.$/, '')) : text
}
