import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { Value } from '@sinclair/typebox/value'
import { statusError } from '../../../plugins/upstream/errors.ts'
import type { UpstreamResponse, Upstream } from '../../../plugins/upstream/client.ts'
import { choose, type Grant } from './challenge.ts'
import type { Credentials, CredentialSource } from './credentials.ts'
import { registryError } from '../../../lib/errors.ts'
import { parseJson } from '../../../lib/json.ts'
import { namesHost } from '../../../plugins/upstream/addresses.ts'
import { TokenResponse } from '../../../schemas/oci.ts'

interface TokensOptions {
  instance: string
  upstream: Upstream
  /**
   * Hosts (`host` or `host:port`), besides the registry's own, whose token server may be used and may receive the
   * credentials.
   */
  authHosts: readonly string[]
  /** `host` or `host:port` of the registry's public address; only this very port is trusted. */
  publicHost?: string | undefined
  /** Returns the milliseconds of a monotonic clock. */
  clock: () => number
}

/** Maximum size of a token server's response in bytes. */
const maxTokenResponseBytes = 128 * 1024
/** Maximum number of tokens, and of challenges, that are remembered of one registry. */
const maxRemembered = 2000
/** Minimum seconds that a token is valid, also when the token server does not state a time (token.md). */
const minLifetimeSeconds = 60
/** A token is renewed this number of seconds before it expires. */
const skewSeconds = 10

/** Returns the `Authorization` header of a user name and a password. */
const basic = ({ username, password }: { username: string, password: string }): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`

/**
 * Creates the tokens of a registry. A token is kept until it ends, and concurrent requests share one look-up.
 * Credentials go to a token server only over https (or http, if the registry uses it), on the registry's host or a
 * configured host. The registry names the address, and could otherwise send the credentials to any host. Any other
 * address is a `config_error` that names the host.
 */
function createTokens ({ instance, upstream, authHosts, publicHost, clock }: TokensOptions) {
  const registry = new URL(upstream.origin)
  const tokens = new LRUCache<string, { token: string, until: number }>({ max: maxRemembered })
  const flights = new Map<string, Promise<string>>()

  /** Returns the address of a token. Throws `config_error` unless credentials may be sent there. */
  function tokenServer ({ realm, service, scope }: Grant): URL {
    const url = URL.canParse(realm) ? new URL(realm) : undefined
    if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
      throw upstream.unexpected('Token server has no usable address', 'http_protocol_error')
    }
    const known = url.host === registry.host || url.host === publicHost || namesHost(authHosts, url)
    if (!known || (url.protocol !== 'https:' && registry.protocol === 'https:')) {
      const host = url.host.slice(0, 260)
      const details = known
        ? `Token server ${host} receives no request without https`
        : `Token server ${host} is not in auth_hosts`
      throw registryError('config_error', `Instance ${instance} requires a token from a host that is not configured`, {
        instance,
        details,
        proxyError: 'proxy_configuration_error'
      })
    }
    url.hash = ''
    if (service !== undefined) url.searchParams.set('service', service)
    for (const part of scope?.split(' ').filter(part => part !== '') ?? []) url.searchParams.append('scope', part)
    return url
  }

  async function fetchToken (identity: Credentials, grant: Grant, key: string): Promise<string> {
    const requestedAt = clock()
    const url = tokenServer(grant)
    const { status, headers, body } = await upstream.request(url, maxTokenResponseBytes, {
      accept: 'application/json',
      urgent: true,
      ...(identity.kind === 'basic' && { authorization: basic(identity) })
    })
    if (status !== 200) throw statusError(instance, status, headers)
    let response: unknown
    try {
      response = parseJson(body)
    } catch {
      // No cause, since its message contains the response.
      throw upstream.unexpected('Response of the token server is not JSON', 'http_protocol_error')
    }
    const found = Value.Check(TokenResponse, response) ? response : {}
    const token = found.token || found.access_token
    if (token === undefined || !/^[\x21-\x7e]+$/.test(token)) {
      throw upstream.unexpected('Response of the token server has no token', 'http_protocol_error')
    }
    const lifetime = typeof found.expires_in === 'number'
      ? Math.max(minLifetimeSeconds, found.expires_in)
      : minLifetimeSeconds
    tokens.set(key, { token, until: requestedAt + (lifetime - skewSeconds) * 1000 })
    return token
  }

  /** Returns a token other than `refused`, the header that the registry has just refused. */
  async function get (account: Credentials, grant: Grant, refused?: string): Promise<string> {
    const authorization = account.kind === 'basic' ? basic(account) : ''
    const key = createHash('sha256').update(JSON.stringify([grant.realm, grant.service, grant.scope, authorization]))
      .digest('base64')
    const known = tokens.get(key)
    if (known !== undefined && clock() < known.until && `Bearer ${known.token}` !== refused) return known.token
    let flight = flights.get(key)
    if (flight === undefined) {
      tokens.delete(key)
      flight = fetchToken(account, grant, key).finally(() => {
        flights.delete(key)
      })
      flights.set(key, flight)
    }
    return await flight
  }

  return { get }
}

export interface AuthenticationOptions extends Omit<TokensOptions, 'clock'> {
  credentials: CredentialSource
  /** Returns the milliseconds of a monotonic clock. */
  clock?: () => number
}

/**
 * Creates the authentication at a registry by its challenges, in Docker's token flow (distribution, token.md).
 * Credentials go to the registry's own origin, and to token servers on configured hosts only; see `createTokens`.
 */
export function createAuthentication (
  { instance, upstream, credentials, authHosts, publicHost, clock = () => performance.now() }: AuthenticationOptions
) {
  const tokens = createTokens({ instance, upstream, authHosts, publicHost, clock })
  /** The challenge of each scope whose request was refused. */
  const challenges = new LRUCache<string, NonNullable<ReturnType<typeof choose>>>({ max: maxRemembered })
  let greeting: Promise<ReturnType<typeof choose>> | undefined

  /** Reads the general challenge of the registry; some send it even with a status of 200. */
  async function greet (): Promise<ReturnType<typeof choose>> {
    const { status, headers, url } = await upstream.request(upstream.address(['v2', '']), maxTokenResponseBytes, {
      urgent: true
    })
    if (status === 429 || status >= 500) throw statusError(instance, status, headers)
    return url.origin === upstream.origin ? choose(headers['www-authenticate']) : undefined
  }

  async function learn (): Promise<ReturnType<typeof choose>> {
    greeting ??= greet()
    try {
      return await greeting
    } catch (error) {
      greeting = undefined
      throw error
    }
  }

  /** Returns the header for a challenge; a password is sent unless a token is required. */
  async function header (
    identity: Credentials,
    way: ReturnType<typeof choose>,
    refused?: string
  ): Promise<string | undefined> {
    if (way?.kind === 'bearer') return `Bearer ${await tokens.get(identity, way.grant, refused)}`
    return identity.kind === 'basic' ? basic(identity) : undefined
  }

  return {
    /**
     * Sends a request with the authorization that the registry requires for `scope` (`repository:a/b:pull`), or in
     * general if unset. After a 401 it sends the request once more, with the authorization of the challenge. Returns
     * the last response.
     */
    async send<T extends UpstreamResponse> (
      scope: string | undefined,
      request: (authorization: { authorization?: string }) => Promise<T>
    ): Promise<T> {
      const sendWith = async (authorization: string | undefined) =>
        await request(authorization === undefined ? {} : { authorization })
      const account = await credentials()
      if (account.kind === 'bearer') return await sendWith(`Bearer ${account.token}`)
      const general = await learn()
      const learnt = greeting
      const way = challenges.get(scope ?? '') ??
        (general?.kind === 'bearer' && scope !== undefined
          ? { ...general, grant: { ...general.grant, scope } }
          : general)
      let first: string | undefined
      try {
        first = await header(account, way)
      } catch (error) {
        // The registry may have changed its challenge: the next request reads it again.
        challenges.delete(scope ?? '')
        if (greeting === learnt) greeting = undefined
        throw error
      }
      const response = await sendWith(first)
      // Only the registry itself may challenge, not a storage that it redirects to.
      if (response.status !== 401 || response.url.origin !== upstream.origin) return response
      const stated = choose(response.headers['www-authenticate'])
      // After a token Harbor names only Basic, and some registries name no scheme: then a new token may be accepted.
      const challenge =
        way?.kind === 'bearer' && stated?.kind !== 'bearer' && !(stated?.kind === 'basic' && account.kind === 'basic')
          ? way
          : stated
      if (challenge === undefined) return response
      const second = await header(account, challenge, first)
      if (second === undefined || second === first) return response
      challenges.set(scope ?? '', challenge)
      return await sendWith(second)
    },

    /** Returns the header for an API without token flow, such as that of Harbor. */
    async direct (): Promise<{ authorization?: string }> {
      const account = await credentials()
      return account.kind === 'anonymous'
        ? {}
        : { authorization: account.kind === 'basic' ? basic(account) : `Bearer ${account.token}` }
    }
  }
}
export type Authentication = ReturnType<typeof createAuthentication>
