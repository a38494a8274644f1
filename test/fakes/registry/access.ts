import { randomBytes } from 'node:crypto'
import type { LoopbackAnswer, LoopbackRequest } from '../loopback.ts'

/** How a registry lets people in. */
export interface AccessOptions {
  auth: 'anonymous' | 'basic' | 'bearer'
  /** Passwords by user; nobody else is let in, unless `guests` are. */
  users: Record<string, string>
  /** Whether the token server gives tokens to those without credentials. */
  guests: boolean
  /** `realm` of the Bearer challenge; the registry's own `/token`, by the Host header, if unset. */
  realm?: string
  service: string
  /** `scope` of every challenge, as Gitea has it; the one that the request needs if unset. */
  scope?: string
  /** What the token server says beside the token. */
  tokenAnswer: Record<string, unknown>
  /** Name of the token's field. */
  tokenField: 'token' | 'access_token'
  /** Tokens that are let in beside those that were given out. */
  tokens: string[]
  /** Scopes that are in no token, whatever is asked for. */
  denied: RegExp | undefined
}

/** Who is let in, and with what. */
export function createAccess (options: AccessOptions) {
  const given = new Map<string, string[]>()

  function user ({ headers }: LoopbackRequest): 'nobody' | 'known' | 'unknown' {
    const [scheme = '', value = ''] = (headers.authorization ?? '').split(' ')
    if (scheme === '') return 'nobody'
    const [name = '', ...password] = Buffer.from(value, 'base64').toString().split(':')
    return /^basic$/i.test(scheme) && Object.hasOwn(options.users, name) && options.users[name] === password.join(':')
      ? 'known'
      : 'unknown'
  }

  return {
    user,

    /** Makes every token that was given out worthless. */
    revoke: (): void => { given.clear() },

    /** The token server's answer. */
    token (request: LoopbackRequest, url: URL): LoopbackAnswer {
      const who = user(request)
      if (who === 'unknown' || (who === 'nobody' && !options.guests)) {
        return {
          status: 401,
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ errors: [{ code: 'UNAUTHORIZED', message: 'authentication required' }] })
        }
      }
      const token = randomBytes(16).toString('hex')
      given.set(token, url.searchParams.getAll('scope').filter(scope => options.denied?.test(scope) !== true))
      return {
        status: 200,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ [options.tokenField]: token, ...options.tokenAnswer })
      }
    },

    /** The challenge for a request that may not be; undefined when it may. */
    challenge (request: LoopbackRequest, scope: string | undefined): string | undefined {
      if (options.auth === 'anonymous') return undefined
      if (options.auth === 'basic') return user(request) === 'known' ? undefined : 'Basic realm="basic-realm"'
      const [scheme = '', token = ''] = (request.headers.authorization ?? '').split(' ')
      const scopes = /^bearer$/i.test(scheme) ? given.get(token) : undefined
      if (options.tokens.includes(token)) return undefined
      if (
        scopes !== undefined && (scope === undefined || options.scope !== undefined || scopes.includes(scope))
      ) { return undefined }
      const wanted = options.scope ?? scope
      return `Bearer realm="${
        options.realm ?? `http://${request.headers.host ?? ''}/token`
      }",service="${options.service}"${wanted === undefined ? '' : `,scope="${wanted}"`}${
        token === '' ? '' : ',error="invalid_token"'
      }`
    }
  }
}
export type Access = ReturnType<typeof createAccess>
