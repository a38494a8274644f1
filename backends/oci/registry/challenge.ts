/** One way in which a server wants to be asked (RFC 9110 section 11.6.1). */
export interface Challenge {
  /** In lower case. */
  scheme: string
  /** By their names in lower case. */
  parameters: ReadonlyMap<string, string>
}

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
/**
 * The next of a header: `name=value`, its value quoted or not, or a scheme. Registries also send addresses without
 * quotes.
 */
const part = new RegExp(`[\\s,]*(${token})(?:\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|([^\\s,"]*)))?`, 'y')

/**
 * The challenges of a `WWW-Authenticate` header, which may hold several, as may several headers that were joined by
 * commas. What cannot be understood ends the list.
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

/** What a token server is asked for. */
export interface Grant {
  /** The token server's address, as the registry names it. */
  realm: string
  service?: string
  /** Several are separated by blanks. */
  scope?: string
}

/** How a server that sent such a header can be asked: with a token, which is preferred, or with a password. */
export function choose (header: string | undefined): { kind: 'bearer', grant: Grant } | { kind: 'basic' } | undefined {
  const challenges = parseChallenges(header)
  for (const { scheme, parameters } of challenges) {
    const [realm, service, scope] = ['realm', 'service', 'scope'].map(name => parameters.get(name))
    if (scheme !== 'bearer' || realm === undefined) continue
    return { kind: 'bearer', grant: { realm, ...(service && { service }), ...(scope && { scope }) } }
  }
  return challenges.some(({ scheme }) => scheme === 'basic') ? { kind: 'basic' } : undefined
}
