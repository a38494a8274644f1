import { isIP, isIPv4, isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'
import { ConfigError } from '../../lib/config/parse.ts'
import { hostName } from '../../lib/host-name.ts'

/** The variables that name proxies and the hosts without a proxy; names in lower case win. */
export type ProxyEnvironment = Readonly<Record<string, string | undefined>>

export interface Proxies {
  /** The variables that name a proxy, for the agents of Node.js; undefined when there is no proxy. */
  environment: Record<string, string> | undefined
  /** Whether the host of an address is connected to without the proxy. */
  isDirect: (url: URL) => boolean
  /**
   * The variable that lists the hosts without a proxy, and its entries that are not a host; only their numbers where
   * one may hold a password.
   */
  ignored: { variable: string, entries: readonly string[] }
}

interface Target {
  /** In lower case, without brackets and without a dot at the end. */
  host: string
  port: number
  /** Only of a host that is an address. An IPv4 address in IPv6 (mapped) is given in both forms. */
  addresses: ReadonlyArray<ipaddr.IPv4 | ipaddr.IPv6>
}

type Rule = (target: Target) => boolean

const proxyVariables = ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY']
const listVariables = ['no_proxy', 'NO_PROXY']

/** Whether this version of Node.js can connect through proxies of an environment: 22.21, 24.5 and later can. */
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

/** `10.0.0.0/8`, `fd00::/8`, `[fd00::]/8`. */
function networkRule (entry: string): Rule | 'malformed' | 'ignored' {
  const [left = '', bits = '', ...rest] = entry.split('/')
  const address = left.replace(/^\[(.*)\]$/, '$1')
  const digits = /^\d{1,3}$/.test(bits)
  if (
    rest.length === 0 && digits && isIP(address) !== 0 && !address.includes('%') && Number(bits) <= longest(address)
  ) { return inNetwork(ipaddr.parse(address), Number(bits)) }
  // Other entries with a slash are meant as an address of a page.
  return digits || /^[\d.]+$/.test(left) || /^(?=.*:)[[\]0-9a-f:.]+$/.test(left) ? 'malformed' : 'ignored'
}

/** `10.0.0.1-10.0.0.9`, which Node.js takes, too. */
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

/** A host: an address, or a name that means itself and every name below it. Undefined for anything else. */
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
 * Reads the proxy variables of an environment; an empty variable is unset. The entries of `NO_PROXY` have the meaning
 * that curl gives them: a name and all names below it, an address, a network, `*`, each but the last two with a port if
 * wanted. Only an address in a URL is compared with networks: no name is resolved. Without a proxy the list is not
 * read. Throws a {@link ConfigError}, without values, for a proxy that cannot be used and for a malformed network or
 * port.
 */
export function readProxies (environment: ProxyEnvironment, version = process.versions.node): Proxies {
  const valueOf = (name: string): string => environment[name]?.trim() ?? ''
  const proxies: Record<string, string> = {}
  for (const name of proxyVariables) {
    const value = valueOf(name)
    if (value === '') continue
    const address = value.includes('://') ? value : `http://${value}`
    // Node.js would ignore it and connect directly.
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
  // An address of a proxy in the wrong variable may have a password, which may have separators of the list in it.
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
