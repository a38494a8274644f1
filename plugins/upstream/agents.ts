import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { authoritiesBytes, parseAuthorities } from '../../lib/authorities.ts'
import { registryError } from '../../lib/errors.ts'
import { readProxies, type ProxyEnvironment } from './proxies.ts'
import { watchFile, type FileLog } from '../../lib/watched-file.ts'

export type { ProxyEnvironment } from './proxies.ts'

export interface AgentOptions {
  instance: string
  /** PEM file of the only trusted certificate authorities. */
  caFile?: string
  log?: FileLog
}

/** Agents of Node.js for both schemes. */
export interface Agents {
  http: http.Agent
  https: https.Agent
}

/** Agents that trust the same certificates, with and without the proxy. */
interface AgentSet {
  certificates: readonly string[] | undefined
  proxied: Agents | undefined
  direct: Agents
}

function openAgentSet (proxyEnv: Record<string, string> | undefined, certificates: string[] | undefined): AgentSet {
  const shared = { keepAlive: true, ...(certificates !== undefined && { ca: certificates }) }
  const open = (more: object): Agents => ({
    http: new http.Agent({ keepAlive: true, ...more }),
    https: new https.Agent({ ...shared, ...more })
  })
  return { certificates, direct: open({}), proxied: proxyEnv === undefined ? undefined : open({ proxyEnv }) }
}

const agentsOf = ({ direct, proxied }: AgentSet): http.Agent[] =>
  [direct, proxied].flatMap(agents => agents === undefined ? [] : [agents.http, agents.https])

/** Closes idle connections immediately, and all others after their response. */
function retire (generation: AgentSet): void {
  for (const agent of agentsOf(generation)) {
    agent.maxFreeSockets = 0
    for (const sockets of Object.values(agent.freeSockets)) for (const socket of [...sockets ?? []]) socket.destroy()
  }
}

/**
 * Creates the connections of one instance, with keep-alive and through the proxies of an environment. `ca_file` is read
 * again after a change, and new connections trust its new certificates. A file that cannot be used is logged once per
 * change, and the previous certificates stay in use. Throws `config_error`, without values, when the file cannot be
 * used at the start. Throws a `ConfigError` for proxy variables that cannot be used.
 */
export function createAgents (environment: ProxyEnvironment, { instance, caFile, log }: AgentOptions) {
  const proxies = readProxies(environment)
  const about = { backend: instance, key: 'ca_file', file: caFile }
  const what = `ca_file of instance ${instance}`
  let failing = false
  let following: Promise<void> | undefined

  function readFirst (file: string): string[] {
    try {
      return parseAuthorities(readFileSync(file))
    } catch (cause) {
      throw registryError('config_error', `${what} cannot be used`, {
        instance,
        cause,
        proxyError: 'proxy_configuration_error'
      })
    }
  }
  let current = openAgentSet(proxies.environment, caFile === undefined ? undefined : readFirst(caFile))
  const read = caFile === undefined ? undefined : watchFile(caFile, authoritiesBytes, parseAuthorities)

  async function follow (): Promise<void> {
    const found = await read?.()
    if (found?.changed !== true) return
    if ('problem' in found) {
      log?.error(
        about,
        `${what} cannot be used: ${found.problem.message}; the certificates that were read before stay in use`
      )
      failing = true
      return
    }
    const certificates = found.value
    if (certificates.join('') !== current.certificates?.join('')) {
      retire(current)
      current = openAgentSet(proxies.environment, certificates)
      log?.info(
        { ...about, certificates: certificates.length },
        `${what} has changed: new connections trust its certificates`
      )
    } else if (failing) log?.info(about, `${what} can be used again`)
    failing = false
  }

  return {
    /** Returns the agents for the host of an address, with the proxy or without it. */
    async of (url: URL): Promise<Agents> {
      // Concurrent requests share one check of the file, so that none of them uses outdated agents.
      await (following ??= follow().finally(() => { following = undefined }))
      return current.proxied === undefined || proxies.isDirect(url) ? current.direct : current.proxied
    },

    /** Closes idle connections. */
    close (): void {
      for (const agent of agentsOf(current)) agent.destroy()
    }
  }
}
