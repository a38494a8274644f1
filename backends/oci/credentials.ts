import { readFileSync } from 'node:fs'
import { Value } from '@sinclair/typebox/value'
import { ConfigError } from '../../plugins/config.ts'
import { registryError } from '../../plugins/errors.ts'
import { createSecret } from '../../plugins/secret.ts'
import type { OciConfig } from '../../schemas/config.ts'
import { DockerConfig } from '../../schemas/oci.ts'

/** What the registry shows of itself to an upstream. */
export type Credentials = { kind: 'anonymous' } | { kind: 'basic', username: string, password: string } | { kind: 'bearer', token: string }

/** Gives the credentials as they are now: files are read again when they change. */
export type CredentialSource = () => Promise<Credentials>

/** Docker Hub's API, and the names under which its credentials are kept. */
const dockerHub = 'registry-1.docker.io'
const dockerHubKeys = ['index.docker.io', 'docker.io']

/** Hosts that a registry's token server is known to be on. */
export const knownAuthHosts = (registry: URL): string[] => registry.host === dockerHub ? ['auth.docker.io'] : []

/** Where an entry of `auths` belongs: `https://ghcr.io/v1/` is `ghcr.io`. */
const place = (key: string): string => key.replace(/^https?:\/\//, '').replace(/\/v[12]\/?$/, '').replace(/\/+$/, '')

/** The names under which credentials may be kept, the most special first: podman's are of a part of a registry. */
function places (registry: URL, namespace: string): string[] {
  const parts = namespace === '' ? [] : namespace.split('/')
  return [registry.host, ...(registry.host === dockerHub ? dockerHubKeys : [])]
    .flatMap(host => Array.from({ length: parts.length + 1 }, (_, less) => [host, ...parts.slice(0, parts.length - less)].join('/')))
    .sort((a, b) => b.split('/').length - a.split('/').length)
}

/** Splits `user:password`; undefined when it is not that. */
function pair (text: string): Credentials | undefined {
  const colon = text.indexOf(':')
  return colon < 1 ? undefined : { kind: 'basic', username: text.slice(0, colon), password: text.slice(colon + 1) }
}

/** The credentials that Docker's `config.json` has for a registry, or in words why there are none. */
function fromDockerConfig (text: string, registry: URL, namespace: string): Credentials | string {
  let config: unknown
  try {
    config = JSON.parse(text)
  } catch {
    return 'expected a file that holds JSON'
  }
  if (!Value.Check(DockerConfig, config)) return "expected Docker's config.json"
  if (config.credsStore !== undefined || config.credHelpers !== undefined) return 'expected a file without credsStore and credHelpers, for credential helpers are not supported'
  const auths = new Map(Object.entries(config.auths ?? {}).map(([key, auth]) => [place(key), auth]))
  const found = places(registry, namespace).map(name => auths.get(name)).find(auth => auth !== undefined)
  if (found === undefined) return `expected a file with auths for ${registry.host}`
  const { auth, username, password, registrytoken: token, identitytoken } = found
  if (token) return /^[\x21-\x7e]+$/.test(token) ? { kind: 'bearer', token } : 'expected a registrytoken of printable characters'
  if (identitytoken) return 'expected auth, username and password or registrytoken, for identitytoken is not supported'
  const basic = auth ? pair(Buffer.from(auth, 'base64').toString('utf8')) : username && password !== undefined ? pair(`${username}:${password}`) : undefined
  return basic ?? 'expected auth, username and password or registrytoken'
}

/**
 * The credentials of a configured registry. Throws a {@link ConfigError} at once when `docker_config` cannot be used, and
 * `config_error`, without paths and values, when a file later cannot.
 */
export function createCredentials (oci: OciConfig, registry: URL): CredentialSource {
  const { name: instance, username, token, namespace } = oci
  if (oci.docker_config !== undefined) {
    const file = oci.docker_config
    const read = (text: string) => fromDockerConfig(text, registry, namespace)
    let known = ''
    let credentials: Credentials | string
    try {
      known = readFileSync(file, 'utf8').trimEnd()
      credentials = read(known)
    } catch {
      credentials = 'expected a file that can be read'
    }
    if (typeof credentials === 'string') throw new ConfigError('docker_config', credentials, `instance ${instance}`)
    const secret = createSecret({ file, instance })
    return async () => {
      const text = await secret() ?? ''
      if (text !== known) {
        credentials = read(text)
        known = text
      }
      if (typeof credentials !== 'string') return credentials
      throw registryError('config_error', `The secret of instance ${instance} cannot be used`, { instance, details: `docker_config: ${credentials}`, proxyError: 'proxy_configuration_error' })
    }
  }
  const file = oci.token_file ?? oci.password_file
  const secret = createSecret({ instance, ...(token !== undefined && { value: token }), ...(file !== undefined && { file }) })
  return async () => {
    const value = await secret()
    if (value === undefined) return { kind: 'anonymous' }
    return username === undefined ? { kind: 'bearer', token: value } : { kind: 'basic', username, password: value }
  }
}
