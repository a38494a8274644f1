import type { FastifyBaseLogger } from 'fastify'
import type { RegistryError } from '../../lib/errors.ts'
import { namesHost } from './addresses.ts'
import { statusError, unusable } from './errors.ts'
import type { ResponseHead } from './exchange.ts'

export interface RedirectOptions {
  instance: string
  /** Configured address of the instance. */
  base: URL
  /** Key of the configuration with the address, for messages. */
  addressKey: string
  /** Other hosts (`host` or `host:port`) that redirects may lead to. */
  redirectHosts: readonly string[]
  log?: Pick<FastifyBaseLogger, 'warn'>
}

/** Maximum number of redirects of one request. */
const maxRedirects = 5
/** Maximum number of refused hosts that are logged, because an upstream could use a new host in each redirect. */
const maxLoggedHosts = 20

/** Returns the reason why a redirect is refused, without its host, and the remedy for the operator. */
function reasonOf ({ base, addressKey }: RedirectOptions, to: URL): [details: string, remedy: string] {
  const sameHost = to.hostname === base.hostname
  if (sameHost && base.protocol === 'http:' && to.protocol === 'https:') {
    return [
      `Redirect from http to https: set ${addressKey} to the https address`,
      `set ${addressKey} to the https address`
    ]
  }
  if (sameHost && base.protocol === 'https:' && to.protocol === 'http:') {
    return [
      'Redirect from https to http, which is not followed',
      'correct the address that the upstream has of itself, for Gitea its ROOT_URL'
    ]
  }
  return [
    'Redirect to a host that is not configured',
    'add the host to redirect_hosts if files are stored there, or set ' +
    `${addressKey} to the address that the upstream redirects to`
  ]
}

/**
 * Creates the function that resolves the `Location` of a response. It throws unless the redirect leads to the origin of
 * the instance, or to a host of `redirect_hosts` without a change from https to http. The first refused redirect to a
 * host is logged with the host and the remedy. The error contains neither host nor address.
 */
export function createRedirects (options: RedirectOptions) {
  const { instance, base, redirectHosts, log } = options
  const logged = new Set<string>()

  const refused = (details: string): RegistryError => unusable(instance, details, 'destination_ip_prohibited')

  return (from: URL, location: string | undefined): URL => {
    const to = location !== undefined && URL.canParse(location, from.href) ? new URL(location, from.href) : undefined
    // User information in the address would become credentials that are not configured.
    if (to === undefined || to.username !== '' || to.password !== '' || !/^https?:$/.test(to.protocol)) {
      throw refused('Redirect to a host that is not configured')
    }
    const allowed = to.origin === base.origin ||
      ((to.protocol === 'https:' || to.protocol === base.protocol) && namesHost(redirectHosts, to))
    if (!allowed) {
      const [details, remedy] = reasonOf(options, to)
      const origin = to.origin.slice(0, 300)
      if (!logged.has(origin) && logged.size < maxLoggedHosts) {
        logged.add(origin)
        log?.warn(
          { backend: instance, origin },
          `the upstream redirects to ${
            details.startsWith('Redirect to a host') ? 'a host that is not configured' : 'another scheme'
          }: the request failed; ${remedy}`
        )
      }
      throw refused(details)
    }
    if (to.pathname.endsWith('/user/login')) throw statusError(instance, 401)
    return to
  }
}

/** Returns whether a status is a redirect; 304 is not. */
export const isRedirect = (status: number): boolean => status >= 300 && status < 400 && status !== 304

/**
 * Sends a request to an address and follows its redirects. Returns the first response that is not a redirect, and its
 * address. `redirected` resolves a `Location`; `unexpected` creates the error of too many redirects.
 */
export async function followRedirects<T extends ResponseHead> (
  start: URL,
  redirected: (from: URL, location: string | undefined) => URL,
  send: (target: URL) => Promise<T>,
  unexpected: (details: string, proxyError: string) => RegistryError
): Promise<{ url: URL, response: T }> {
  let url = start
  for (let hop = 0; hop <= maxRedirects; hop++) {
    const response = await send(url)
    if (!isRedirect(response.statusCode)) return { url, response }
    url = redirected(url, response.headers.location)
  }
  throw unexpected('Too many redirects', 'http_protocol_error')
}
