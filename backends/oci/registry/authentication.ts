import { LRUCache } from 'lru-cache'
import { statusError } from '../../../plugins/upstream/errors.ts'
import type { UpstreamResponse } from '../../../plugins/upstream/client.ts'
import { choose } from './challenge.ts'
import type { Credentials, CredentialSource } from './credentials.ts'
import { basic, createTokens, maxRemembered, maxTokenResponseBytes, type TokensOptions } from './tokens.ts'

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
    who: Credentials,
    way: ReturnType<typeof choose>,
    refused?: string
  ): Promise<string | undefined> {
    if (way?.kind === 'bearer') return `Bearer ${await tokens.get(who, way.grant, refused)}`
    return who.kind === 'basic' ? basic(who) : undefined
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
      const who = await credentials()
      if (who.kind === 'bearer') return await sendWith(`Bearer ${who.token}`)
      const general = await learn()
      const learnt = greeting
      const way = challenges.get(scope ?? '') ??
        (general?.kind === 'bearer' && scope !== undefined
          ? { ...general, grant: { ...general.grant, scope } }
          : general)
      let first: string | undefined
      try {
        first = await header(who, way)
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
        way?.kind === 'bearer' && stated?.kind !== 'bearer' && !(stated?.kind === 'basic' && who.kind === 'basic')
          ? way
          : stated
      if (challenge === undefined) return response
      const second = await header(who, challenge, first)
      if (second === undefined || second === first) return response
      challenges.set(scope ?? '', challenge)
      return await sendWith(second)
    },

    /** Returns the header for an API without token flow, such as that of Harbor. */
    async direct (): Promise<{ authorization?: string }> {
      const who = await credentials()
      return who.kind === 'anonymous'
        ? {}
        : { authorization: who.kind === 'basic' ? basic(who) : `Bearer ${who.token}` }
    }
  }
}
export type Authentication = ReturnType<typeof createAuthentication>
