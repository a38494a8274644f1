import { randomBytes } from 'node:crypto'
import type { LoopbackResponse, LoopbackRequest } from '../loopback.ts'

/** Settings of the authentication of a registry. */
export interface AccessOptions {
  auth: 'anonymous' | 'basic' | 'bearer'
  /** Passwords by user; other users are refused, except guests when `guests` is set. */
  users: Record<string, string>
  /** Whether the token server issues tokens without credentials. */
  guests: boolean
  /** `realm` of the Bearer challenge; the default is `/token` on the host of the Host header. */
  realm?: string
  service: string
  /** `scope` of every challenge, as in Gitea; the default is the scope that the request needs. */
  scope?: string
  /** Further fields in the response of the token server. */
  tokenResponse: Record<string, unknown>
  /** Name of the field with the token. */
  tokenField: 'token' | 'access_token'
  /** Tokens that are accepted in addition to the issued ones. */
  tokens: string[]
  /** Scopes that no issued token includes. */
  denied: RegExp | undefined
}

/** Creates the authentication of a registry with its token server. */
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

    /** Revokes all issued tokens. */
    revoke: (): void => { given.clear() },

    /** Returns the response of the token server. */
    token (request: LoopbackRequest, url: URL): LoopbackResponse {
      const identity = user(request)
      if (identity === 'unknown' || (identity === 'nobody' && !options.guests)) {
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
        body: JSON.stringify({ [options.tokenField]: token, ...options.tokenResponse })
      }
    },

    /** Returns the challenge for a request without access; undefined when it has access. */
    challenge (request: LoopbackRequest, scope: string | undefined): string | undefined {
      if (options.auth === 'anonymous') return undefined
      if (options.auth === 'basic') return user(request) === 'known' ? undefined : 'Basic realm="basic-realm"'
      const [scheme = '', token = ''] = (request.headers.authorization ?? '').split(' ')
      const scopes = /^bearer$/i.test(scheme) ? given.get(token) : undefined
      if (options.tokens.includes(token)) return undefined
      if (
        scopes !== undefined && (scope === undefined || options.scope !== undefined || scopes.includes(scope))
      ) { return undefined }
      const expected = options.scope ?? scope
      return `Bearer realm="${
        options.realm ?? `http://${request.headers.host ?? ''}/token`
      }",service="${options.service}"${expected === undefined ? '' : `,scope="${expected}"`}${
        token === '' ? '' : ',error="invalid_token"'
      }`
    }
  }
}
export type Access = ReturnType<typeof createAccess>
