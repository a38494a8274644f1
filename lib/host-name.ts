import { isIP, isIPv6 } from 'node:net'
import { domainToASCII } from 'node:url'

/**
 * Returns a host name in the form that DNS and URLs use: in lower case and ASCII. Undefined for text that is not a host
 * name, also for text whose last part is a number: URLs take that for an address. Underscores are allowed, as in names
 * of containers.
 */
export function hostName (text: string): string | undefined {
  const name = /^[\x21-\x7e]*$/.test(text) ? text.toLowerCase() : domainToASCII(text)
  const labels = name.split('.')
  const valid = name.length <= 253 && labels.every(label => /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label))
  return valid && !/^(?:\d+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? '') ? name : undefined
}

/**
 * Returns a host to listen on as the system wants it: an address, an IPv6 address without the brackets that URLs need,
 * or a host name. Undefined for anything else.
 */
export function listenHost (text: string): string | undefined {
  const bare = text.replace(/^\[(.*)\]$/, '$1')
  if (bare !== text) return isIPv6(bare) ? bare : undefined
  return isIP(text) === 0 ? hostName(text.replace(/\.$/, '')) : text
}
