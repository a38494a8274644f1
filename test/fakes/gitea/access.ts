import type { IncomingHttpHeaders } from 'node:http'
import type { Repository } from './store.ts'

/** A token and what its user may do with the private and the public repositories; `read` unless told. */
export interface TokenContent {
  /** As Gitea spells them, `read:repository` for one; `all` is all. */
  scopes: string[]
  /** `admin` also sees what a repository has switched off. */
  rights?: 'none' | 'read' | 'write' | 'admin'
}

/** What one request may do. */
export interface Access {
  signedIn: boolean
  /** Whether its user may write, whatever the token's scopes. */
  writes: boolean
  admin: boolean
  /** The message of a 403, when the token lacks a scope. */
  lacks: (scope: string) => string | undefined
  reads: (repository: Repository) => boolean
}

/** The token that a request carries in any of the ways Gitea takes; undefined when it is anonymous. */
function tokenOf ({ authorization = '' }: IncomingHttpHeaders): string | undefined {
  const [scheme = '', credentials = ''] = authorization.split(' ')
  if (/^(?:token|bearer)$/i.test(scheme)) return credentials
  if (!/^basic$/i.test(scheme)) return undefined
  const [user = '', password = ''] = Buffer.from(credentials, 'base64').toString().split(':')
  return password === '' || password === 'x-oauth-basic' ? user : password
}

/** Undefined when the request names a token that is none. */
export function accessOf (tokens: Record<string, TokenContent>, headers: IncomingHttpHeaders): Access | undefined {
  const name = tokenOf(headers)
  const token = name === undefined ? undefined : tokens[name]
  if (name !== undefined && token === undefined) return undefined
  const { scopes = [], rights = token === undefined ? 'none' : 'read' } = token ?? {}
  const holds = (scope: string): boolean =>
    [scope, scope.replace('read:', 'write:'), 'all'].some((each) => scopes.includes(each))
  return {
    signedIn: token !== undefined,
    writes: rights === 'write' || rights === 'admin',
    admin: rights === 'admin',
    lacks: (scope) => token === undefined || holds(scope)
      ? undefined
      : `token does not have at least one of required scope(s), required=[${scope}], token scope=${scopes.join(',')}`,
    reads: (repository) => !repository.private || rights !== 'none'
  }
}
