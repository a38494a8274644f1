import { createSign, randomUUID, X509Certificate } from 'node:crypto'
import { createLoopback, type Loopback } from './loopback.ts'

export interface TokenServerOptions {
  service: string
  issuer: string
  /** PEM of the signing key, and of its certificate, which the registry must trust. */
  key: string
  certificate: string
  /** Passwords by user; these users may push and list, and all others are refused. */
  users: Record<string, string>
}

const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

/**
 * Starts a token server on 127.0.0.1 as the token specification of distribution requires: ES256, certificate in `x5c`.
 */
export async function createTokenServer (
  { service, issuer, key, certificate, users }: TokenServerOptions
): Promise<Loopback> {
  const x5c = [new X509Certificate(certificate).raw.toString('base64')]
  return await createLoopback(({ path, headers }) => {
    const url = new URL(path, 'http://token')
    const [name = '', password = ''] = Buffer.from((headers.authorization ?? '').replace(/^Basic /, ''), 'base64')
      .toString().split(':')
    if (!Object.hasOwn(users, name) || users[name] !== password) return { status: 401, body: '' }
    const access = url.searchParams.getAll('scope').map(scope => {
      const [type = '', target = '', actions = ''] = [
        scope.slice(0, scope.indexOf(':')),
        scope.slice(scope.indexOf(':') + 1, scope.lastIndexOf(':')),
        scope.slice(scope.lastIndexOf(':') + 1)
      ]
      return { type, name: target, actions: actions.split(',') }
    })
    const now = Math.floor(Date.now() / 1000)
    const signed = `${base64url({ typ: 'JWT', alg: 'ES256', x5c })}.${
      base64url({
        iss: issuer,
        sub: name,
        aud: service,
        exp: now + 300,
        nbf: now - 10,
        iat: now,
        jti: randomUUID(),
        access
      })
    }`
    const signature = createSign('SHA256').update(signed).sign({ key, dsaEncoding: 'ieee-p1363' }).toString('base64url')
    return {
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ token: `${signed}.${signature}`, expires_in: 300 })
    }
  })
}
