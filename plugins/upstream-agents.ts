import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { registryError } from './errors.ts'

/** The variables that name proxies; those in lower case win, as everywhere. */
export type ProxyEnvironment = Readonly<Record<string, string | undefined>>

export interface AgentOptions {
  instance: string
  verifySsl: boolean
  /** PEM file of the only authorities that are trusted. */
  caFile?: string
}

const names = ['http_proxy', 'https_proxy', 'no_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY']

/** What of an environment says something about proxies; empty is unset. */
function proxies (environment: ProxyEnvironment): Record<string, string> {
  return Object.fromEntries(names.flatMap(name => {
    const value = environment[name]?.trim()
    return value === undefined || value === '' ? [] : [[name, value]]
  }))
}

/**
 * The connections of one instance: kept alive, through the proxies of an environment, trusting whom they must. Throws
 * `config_error`, without values, when the file of authorities cannot be read or a proxy's address is none.
 */
export function createAgents (environment: ProxyEnvironment, { instance, verifySsl, caFile }: AgentOptions) {
  const refuse = (what: string, cause: unknown) => registryError('config_error', `${what} of instance ${instance} cannot be used`, { instance, cause, proxyError: 'proxy_configuration_error' })
  const shared = { keepAlive: true, proxyEnv: proxies(environment) }

  let certificateAuthority: Buffer | undefined
  try {
    if (caFile !== undefined) certificateAuthority = readFileSync(caFile)
  } catch (cause) {
    throw refuse('ca_file', cause)
  }
  let agents: { http: http.Agent, https: https.Agent }
  try {
    agents = { http: new http.Agent(shared), https: new https.Agent(shared) }
  } catch {
    // No cause: its message has the address, and that may have a password.
    throw refuse('The proxy', undefined)
  }
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
