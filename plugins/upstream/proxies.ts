import { isIP, isIPv4, isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'
import { ConfigError } from '../../lib/config/parse.ts'
import { hostName } from '../../lib/host-name.ts'

/** Environment variables for proxies and for hosts without a proxy; names in lower case take precedence. */
export type ProxyEnvironment = Readonly<Record<string, string | undefined>>

export interface Proxies {
  /** Environment variables with the proxies, for the agents of Node.js; undefined without a proxy. */
  environment: Record<string, string> | undefined
  /** Returns whether the host of an address is connected to directly. */
  isDirect: (url: URL) => boolean
  /**
   * Variable with the hosts without a proxy, and its entries that are not a host. If an entry may contain a password,
   * only the numbers of the entries are given.
   */
  ignored: { variable: string, entries: readonly string[] }
}

interface Target {
  /** Host in lower case, without brackets and without a trailing dot. */
  host: string
  port: number
  /** Addresses of a host that is an address. An IPv4 address in IPv6 notation (mapped) is present in both forms. */
  addresses: ReadonlyArray<ipaddr.IPv4 | ipaddr.IPv6>
}

type Rule = (target: Target) => boolean

const proxyVariables = ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY']
const listVariables = ['no_proxy', 'NO_PROXY']

/** Returns whether a version of Node.js supports proxies of the environment: 22.21, 24.5 and later do. */
function canProxy (version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21)
}

function targetOf ({ protocol, hostname, port }: URL): Target {
  const host = hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
  const addresses = isIP(host) === 0 ? [] : [ipaddr.parse(host), ipaddr.process(host)]
  return { host, port: Number(port || (protocol === 'https:' ? 443 : 80)), addresses }
}

function inNetwork (network: ipaddr.IPv4 | ipaddr.IPv6, bits: number): Rule {
  return ({ addresses }) => addresses.some(address => address instanceof ipaddr.IPv4
    ? network instanceof ipaddr.IPv4 && address.match(network, bits)
    : network instanceof ipaddr.IPv6 && address.match(network, bits))
}

const longest = (address: string): number => isIPv4(address) ? 32 : 128

/** Returns the rule of a network: `10.0.0.0/8`, `fd00::/8`, `[fd00::]/8`. */
function networkRule (entry: string): Rule | 'malformed' | 'ignored' {
  const [left = '', bits = '', ...rest] = entry.split('/')
  const address = left.replace(/^\[(.*)\]$/, '$1')
  const digits = /^\d{1,3}$/.test(bits)
  if (
    rest.length === 0 && digits && isIP(address) !== 0 && !address.includes('%') && Number(bits) <= longest(address)
  ) { return inNetwork(ipaddr.parse(address), Number(bits)) }
  // Other entries with a slash are addresses of pages.
  return digits || /^[\d.]+$/.test(left) || /^(?=.*:)[[\]0-9a-f:.]+$/.test(left) ? 'malformed' : 'ignored'
}

/** Returns the rule of a range such as `10.0.0.1-10.0.0.9`, which Node.js supports as well. */
function rangeRule (first: string, last: string): Rule | 'malformed' {
  const [from = 0, to = 0] = [first, last].map(address =>
    ipaddr.IPv4.parse(address).toByteArray().reduce((sum, byte) => sum * 256 + byte, 0)
  )
  if (from > to) return 'malformed'
  return ({ addresses }) =>
    addresses.some(address => {
      const number = address instanceof ipaddr.IPv4
        ? address.toByteArray().reduce((sum, byte) => sum * 256 + byte, 0)
        : -1
      return number >= from && number <= to
    })
}

/** Returns the rule of an address, or of a name and all names below it; undefined for other text. */
function hostRule (text: string): Rule | undefined {
  const address = text.replace(/^\[(.*:.*)\]$/, '$1')
  if (isIP(address) !== 0) return address.includes('%') ? undefined : inNetwork(ipaddr.parse(address), longest(address))
  const name = hostName(text.replace(/^\*?\./, '').replace(/\.$/, ''))
  if (name === undefined) return undefined
  return ({ host }) => host === name || host.endsWith(`.${name}`)
}

function ruleOf (entry: string): Rule | 'malformed' | 'ignored' {
  if (entry === '*') return () => true
  if (entry.includes('://') || entry.includes('@')) return 'ignored'
  if (entry.includes('/')) return networkRule(entry)
  const [, first = '', last = ''] = /^([\d.]+)-([\d.]+)$/.exec(entry) ?? []
  if (isIPv4(first) && isIPv4(last)) return rangeRule(first, last)
  const [, host = entry, port] = isIPv6(entry) ? [] : /^(\[[^\]]*\]|[^:]*):([^:]*)$/.exec(entry) ?? []
  const rule = hostRule(host)
  if (rule === undefined) return 'ignored'
  if (port === undefined) return rule
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535) return 'malformed'
  return target => target.port === Number(port) && rule(target)
}

/**
 * Reads the proxy variables of an environment; an empty variable is unset. Entries of `NO_PROXY` have the same meaning
 * as in curl: a name and all names below it, an address, a network or `*`. Names and addresses may have a port. Only an
 * address in a URL is compared with networks, because names are not resolved. Without a proxy the list is not read.
 * Throws a {@link ConfigError}, without values, for an unusable proxy and for a malformed network or port.
 */
export function readProxies (environment: ProxyEnvironment, version = process.versions.node): Proxies {
  const valueOf = (name: string): string => environment[name]?.trim() ?? ''
  const proxies: Record<string, string> = {}
  for (const name of proxyVariables) {
    const value = valueOf(name)
    if (value === '') continue
    const address = value.includes('://') ? value : `http://${value}`
    // Node.js would ignore such a value and connect directly.
    if (!URL.canParse(address) || !/^https?:$/.test(new URL(address).protocol)) {
      throw new ConfigError(name, 'expected an http:// or https:// address of a proxy', 'the environment')
    }
    if (!canProxy(version)) {
      throw new ConfigError(name, 'expected Node.js 22.21, 24.5 or later, which proxies need', 'the environment')
    }
    proxies[name] = address
  }
  const variable = listVariables.find(name => valueOf(name) !== '') ?? 'NO_PROXY'
  if (Object.keys(proxies).length === 0) {
    return {
      environment: undefined,
      isDirect: () => true,
      ignored: { variable, entries: [] }
    }
  }

  const rules: Rule[] = []
  const ignored: string[] = []
  const list = valueOf(variable)
  // The address of a proxy in the wrong variable may have a password, and the password may contain separators of the
  // list.
  const mayHoldPassword = list.includes('@')
  for (const [index, entry] of list.split(/[\s,;]+/).filter(text => text !== '').entries()) {
    const rule = ruleOf(entry.toLowerCase())
    if (rule === 'malformed') {
      throw new ConfigError(
        variable,
        `entry ${index + 1}: expected a network such as 10.0.0.0/8 or fd00::/8, or a host with a port from 1 to 65535`,
        'the environment'
      )
    }
    if (rule === 'ignored') ignored.push(mayHoldPassword ? `entry ${index + 1}` : entry)
    else rules.push(rule)
  }
  return {
    environment: proxies,
    isDirect: url => {
      const target = targetOf(url)
      return rules.some(rule => rule(target))
    },
    ignored: { variable, entries: ignored }
  }
}
