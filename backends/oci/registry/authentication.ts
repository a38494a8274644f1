import { createHash } from 'node:crypto'
import { Value } from '@sinclair/typebox/value'
import { LRUCache } from 'lru-cache'
import { registryError } from '../../../lib/errors.ts'
import { parseJson } from '../../../lib/json.ts'
import { namesHost } from '../../../plugins/upstream/addresses.ts'
import { statusError } from '../../../plugins/upstream/errors.ts'
import type { Upstream, UpstreamAnswer } from '../../../plugins/upstream/client.ts'
import { TokenResponse } from '../../../schemas/oci.ts'
import { choose, type Grant } from './challenge.ts'
import type { Credentials, CredentialSource } from './credentials.ts'

export interface AuthenticationOptions {
  instance: string
  upstream: Upstream
  credentials: CredentialSource
  /**
   * Hosts (`host` or `host:port`), besides the registry's own, whose token server may be asked and may see the
   * credentials.
   */
  authHosts: readonly string[]
  /** `host` or `host:port` of the registry's public address, of which only that very port is meant. */
  publicHost?: string
  /** Milliseconds. */
  clock?: () => number
}

/** Bytes of a token server's answer that are read. */
const maxTokenResponseBytes = 128 * 1024
/** Seconds that a token holds when nobody says, and at least (token.md). */
const minLifetimeSeconds = 60
/** Seconds before its end in which a token is not used any more. */
const skew = 10
/** Tokens and challenges remembered of one registry. */
const remembered = 2000

const basic = ({ username, password }: { username: string, password: string }): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`

/**
 * Answers a registry's challenges, as Docker's token flow has them (distribution, token.md). A token is kept until it
 * ends and fetched once, however many want it. Credentials go to the registry's own origin, and to a token server only
 * over https (or http, if the registry is) on a host that the operator has named: the registry says where it is, so it
 * could otherwise send them anywhere. Anything else is a `config_error` that names the host.
 */
export function createAuthentication (
  { instance, upstream, credentials, authHosts, publicHost, clock = () => performance.now() }: AuthenticationOptions
) {
  const registry = new URL(upstream.origin)
  const tokens = new LRUCache<string, { token: string, until: number }>({ max: remembered })
  const flights = new Map<string, Promise<string>>()
  /** What the registry wanted for a scope when it refused what was sent for it. */
  const wanted = new LRUCache<string, NonNullable<ReturnType<typeof choose>>>({ max: remembered })
  let greeting: Promise<ReturnType<typeof choose>> | undefined

  /** Where a token is asked for; throws unless credentials may go there. */
  function tokenServer ({ realm, service, scope }: Grant): URL {
    const url = URL.canParse(realm) ? new URL(realm) : undefined
    if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
      throw upstream.unexpected('Token server has no usable address', 'http_protocol_error')
    }
    const known = url.host === registry.host || url.host === publicHost || namesHost(authHosts, url)
    if (!known || (url.protocol !== 'https:' && registry.protocol === 'https:')) {
      const host = url.host.slice(0, 260)
      const details = known
        ? `Token server ${host} is not asked without https`
        : `Token server ${host} is not in auth_hosts`
      throw registryError('config_error', `Instance ${instance} wants its token from a host that is not configured`, {
        instance,
        details,
        proxyError: 'proxy_configuration_error'
      })
    }
    url.hash = ''
    if (service !== undefined) url.searchParams.set('service', service)
    for (const one of scope?.split(' ').filter(one => one !== '') ?? []) url.searchParams.append('scope', one)
    return url
  }

  async function fetchToken (who: Credentials, grant: Grant, key: string): Promise<string> {
    const asked = clock()
    const url = tokenServer(grant)
    const { status, headers, body } = await upstream.request(url, maxTokenResponseBytes, {
      accept: 'application/json',
      urgent: true,
      ...(who.kind === 'basic' && { authorization: basic(who) })
    })
    if (status !== 200) throw statusError(instance, status, headers)
    let answer: unknown
    try {
      answer = parseJson(body)
    } catch {
      // No cause: its message has what was sent.
      throw upstream.unexpected('Token server answered with no JSON', 'http_protocol_error')
    }
    const found = Value.Check(TokenResponse, answer) ? answer : {}
    const token = found.token || found.access_token
    if (token === undefined || !/^[\x21-\x7e]+$/.test(token)) {
      throw upstream.unexpected('Token server gave no token', 'http_protocol_error')
    }
    const lifetime = typeof found.expires_in === 'number'
      ? Math.max(minLifetimeSeconds, found.expires_in)
      : minLifetimeSeconds
    tokens.set(key, { token, until: asked + (lifetime - skew) * 1000 })
    return token
  }

  /** A token; not `refused`, which the registry has just refused. */
  async function tokenFor (who: Credentials, grant: Grant, refused?: string): Promise<string> {
    const identity = who.kind === 'basic' ? basic(who) : ''
    const key = createHash('sha256').update(JSON.stringify([grant.realm, grant.service, grant.scope, identity])).digest(
      'base64'
    )
    const known = tokens.get(key)
    if (known !== undefined && clock() < known.until && `Bearer ${known.token}` !== refused) return known.token
    let flight = flights.get(key)
    if (flight === undefined) {
      tokens.delete(key)
      flight = fetchToken(who, grant, key).finally(() => { flights.delete(key) })
      flights.set(key, flight)
    }
    return await flight
  }

  /** What the registry wants of everybody; some say it even to those that they let in. Learnt once. */
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

  /** The header that a way of asking makes of the credentials; a password is sent unless a token is wanted. */
  async function header (
    who: Credentials,
    way: ReturnType<typeof choose>,
    refused?: string
  ): Promise<string | undefined> {
    if (way?.kind === 'bearer') return `Bearer ${await tokenFor(who, way.grant, refused)}`
    return who.kind === 'basic' ? basic(who) : undefined
  }

  return {
    /**
     * Asks with what the registry wants for `scope` (`repository:a/b:pull`), or for what it says itself if unset. After
     * a 401 it answers the challenge and asks once more; whatever is said then is the answer.
     */
    async asking<T extends UpstreamAnswer> (
      scope: string | undefined,
      ask: (authorization: { authorization?: string }) => Promise<T>
    ): Promise<T> {
      const send = async (authorization: string | undefined) =>
        await ask(authorization === undefined ? {} : { authorization })
      const who = await credentials()
      if (who.kind === 'bearer') return await send(`Bearer ${who.token}`)
      const general = await learn()
      const learnt = greeting
      const way = wanted.get(scope ?? '') ??
        (general?.kind === 'bearer' && scope !== undefined
          ? { ...general, grant: { ...general.grant, scope } }
          : general)
      let first: string | undefined
      try {
        first = await header(who, way)
      } catch (error) {
        // The registry may want another thing by now: the next question learns it anew.
        wanted.delete(scope ?? '')
        if (greeting === learnt) greeting = undefined
        throw error
      }
      const answer = await send(first)
      // Only the registry itself may ask for credentials: not a storage that it redirects to.
      if (answer.status !== 401 || answer.url.origin !== upstream.origin) return answer
      const told = choose(answer.headers['www-authenticate'])
      // Harbor names only Basic to those who sent a token, and some name nothing: then a new token is what may help.
      const challenge =
        way?.kind === 'bearer' && told?.kind !== 'bearer' && !(told?.kind === 'basic' && who.kind === 'basic')
          ? way
          : told
      if (challenge === undefined) return answer
      const second = await header(who, challenge, first)
      if (second === undefined || second === first) return answer
      wanted.set(scope ?? '', challenge)
      return await send(second)
    },

    /** The header for an API beside the registry's own, which knows no token flow. */
    async direct (): Promise<{ authorization?: string }> {
      const who = await credentials()
      return who.kind === 'anonymous'
        ? {}
        : { authorization: who.kind === 'basic' ? basic(who) : `Bearer ${who.token}` }
    }
  }
}
export type Authentication = ReturnType<typeof createAuthentication>
