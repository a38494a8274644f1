/** A challenge of a server: one way of authentication that it accepts (RFC 9110 section 11.6.1). */
export interface Challenge {
  /** Scheme in lower case. */
  scheme: string
  /** Parameters by their names in lower case. */
  parameters: ReadonlyMap<string, string>
}

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
/**
 * The next part of a header: `name=value`, its value quoted or not, or a scheme. Registries also send addresses without
 * quotes.
 */
const part = new RegExp(`[\\s,]*(${token})(?:\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|([^\\s,"]*)))?`, 'y')

/**
 * Returns the challenges of a `WWW-Authenticate` header, which may hold several, also of several headers joined by
 * commas. The list ends at the first part that cannot be parsed.
 */
export function parseChallenges (header: string | undefined): Challenge[] {
  const challenges: Array<{ scheme: string, parameters: Map<string, string> }> = []
  if (header === undefined) return challenges
  part.lastIndex = 0
  for (let found = part.exec(header); found !== null; found = part.exec(header)) {
    const [, name = '', quoted, plain] = found
    const value = quoted?.replaceAll(/\\(.)/g, '$1') ?? plain
    if (value === undefined) challenges.push({ scheme: name.toLowerCase(), parameters: new Map() })
    else challenges.at(-1)?.parameters.set(name.toLowerCase(), value)
  }
  return challenges
}

/** Parameters of the request for a token. */
export interface Grant {
  /** Address of the token server, as the registry states it. */
  realm: string
  service?: string
  /** Scopes, separated by blanks. */
  scope?: string
}

/**
 * Returns how requests to a server with this header are authorized: with a token, which is preferred, or with a
 * password.
 */
export function choose (header: string | undefined): { kind: 'bearer', grant: Grant } | { kind: 'basic' } | undefined {
  const challenges = parseChallenges(header)
  for (const { scheme, parameters } of challenges) {
    const [realm, service, scope] = ['realm', 'service', 'scope'].map(name => parameters.get(name))
    if (scheme !== 'bearer' || realm === undefined) continue
    return { kind: 'bearer', grant: { realm, ...(service && { service }), ...(scope && { scope }) } }
  }
  return challenges.some(({ scheme }) => scheme === 'basic') ? { kind: 'basic' } : undefined
}
