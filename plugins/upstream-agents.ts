import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { registryError } from './errors.ts'

/** Whether this Node.js can connect through proxies of an environment: 22.21, 24.5 and later can. */
function canProxy (version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21)
}

/** The variables that name proxies; those in lower case win, as everywhere. */
export type ProxyEnvironment = Readonly<Record<string, string | undefined>>

export interface AgentOptions {
  instance: string
  verifySsl: boolean
  /** PEM file of the only authorities that are trusted. */
  caFile?: string
}

const addresses = ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY']
const exceptions = ['no_proxy', 'NO_PROXY']

/**
 * What of an environment says something about proxies, as Node.js takes it; empty is unset. Undefined when a proxy is one
 * that cannot be used: Node.js would pass it by in silence.
 */
function proxies (environment: ProxyEnvironment): Record<string, string> | undefined {
  const found: Record<string, string> = {}
  for (const name of [...addresses, ...exceptions]) {
    const value = environment[name]?.trim() ?? ''
    if (value === '') continue
    const address = addresses.includes(name) && !value.includes('://') ? `http://${value}` : value
    if (addresses.includes(name) && !(URL.canParse(address) && /^https?:$/.test(new URL(address).protocol))) return undefined
    found[name] = address
  }
  return found
}

/**
 * The connections of one instance: kept alive, through the proxies of an environment, trusting whom they must. Throws
 * `config_error`, without values, when the file of authorities cannot be read or a proxy's address is none.
 */
export function createAgents (environment: ProxyEnvironment, { instance, verifySsl, caFile }: AgentOptions, version = process.versions.node) {
  const refuse = (what: string, cause: unknown) => registryError('config_error', `${what} of instance ${instance} cannot be used`, { instance, cause, proxyError: 'proxy_configuration_error' })
  const proxyEnv = proxies(environment)
  // No cause: it would have the address, and that may have a password.
  if (proxyEnv === undefined) throw refuse('The proxy', undefined)
  // Going past a proxy that was asked for would be worse than not going at all.
  if (addresses.some(name => proxyEnv[name] !== undefined) && !canProxy(version)) throw refuse('The proxy, which needs Node.js 22.21, 24.5 or later,', undefined)
  const shared = { keepAlive: true, proxyEnv }

  let certificateAuthority: Buffer | undefined
  try {
    if (caFile !== undefined) certificateAuthority = readFileSync(caFile)
  } catch (cause) {
    throw refuse('ca_file', cause)
  }
  const agents = { http: new http.Agent(shared), https: new https.Agent(shared) }
  return {
    agents,
    https: { rejectUnauthorized: verifySsl, ...(certificateAuthority !== undefined && { certificateAuthority }) },
    /** Ends idle connections. */
    close (): void {
      agents.http.destroy()
      agents.https.destroy()
    }
  }
}
