import type { IncomingHttpHeaders } from 'node:http'
import type { Repository } from './store.ts'

/** A token, and the rights of its user on private and public repositories; the default is `read`. */
export interface TokenContent {
  /** In the spelling of Gitea, such as `read:repository`; `all` includes all scopes. */
  scopes: string[]
  /** `admin` also has access to disabled units of a repository. */
  rights?: 'none' | 'read' | 'write' | 'admin'
}

/** Rights of one request. */
export interface Access {
  signedIn: boolean
  /** Whether its user may write, regardless of the scopes of the token. */
  writes: boolean
  admin: boolean
  /** Returns the message of a 403 when the token lacks a scope, else undefined. */
  lacks: (scope: string) => string | undefined
  reads: (repository: Repository) => boolean
}

/** Returns the token of a request in any form that Gitea accepts; undefined for an anonymous request. */
function tokenOf ({ authorization = '' }: IncomingHttpHeaders): string | undefined {
  const [scheme = '', credentials = ''] = authorization.split(' ')
  if (/^(?:token|bearer)$/i.test(scheme)) return credentials
  if (!/^basic$/i.test(scheme)) return undefined
  const [user = '', password = ''] = Buffer.from(credentials, 'base64').toString().split(':')
  return password === '' || password === 'x-oauth-basic' ? user : password
}

/** Returns the rights of a request; undefined when its token is unknown. */
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
