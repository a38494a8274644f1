import { Value } from '@sinclair/typebox/value'
import { checkFile } from '../../../lib/config/files.ts'
import { checkLine, createCredentialFile, createSecret } from '../../../lib/secret.ts'
import { decodeText, decodeUtf8, FileProblem, type FileLog } from '../../../lib/watched-file.ts'
import type { OciConfig } from '../../../schemas/upstreams.ts'
import { DockerConfig } from '../../../schemas/oci.ts'

/** Credentials that are sent to a registry. */
export type Credentials = { kind: 'anonymous' } | { kind: 'basic', username: string, password: string } | {
  kind: 'bearer',
  token: string
}

/** Returns the current credentials: files are read again when they change. */
export type CredentialSource = () => Promise<Credentials>

/** Host of Docker Hub's API, and the names under which its credentials are stored. */
const dockerHub = 'registry-1.docker.io'
const dockerHubKeys = ['index.docker.io', 'docker.io']

/** Returns the known hosts of a registry's token server. */
export const knownAuthHosts = (registry: URL): string[] => registry.host === dockerHub ? ['auth.docker.io'] : []

/** Returns the host and the path of a key of `auths`: `https://ghcr.io/v1/` is `ghcr.io`. */
const place = (key: string): string => key.replace(/^https?:\/\//, '').replace(/\/v[12]\/?$/, '').replace(/\/+$/, '')

/**
 * Returns the names under which credentials may be stored, the most specific first. Podman stores some for a part of a
 * registry.
 */
function places (registry: URL, namespace: string): string[] {
  const parts = namespace === '' ? [] : namespace.split('/')
  return [registry.host, ...(registry.host === dockerHub ? dockerHubKeys : [])]
    .flatMap(host =>
      Array.from({ length: parts.length + 1 }, (_, less) => [host, ...parts.slice(0, parts.length - less)].join('/'))
    )
    .sort((a, b) => b.split('/').length - a.split('/').length)
}

/** Maximum bytes of Docker's `config.json`. */
const dockerConfigBytes = 1024 * 1024

const neither = 'expected auth, username and password or registrytoken'

/**
 * Splits `user:password`. Throws a {@link FileProblem} for other text, and for a password that `password_file` could
 * not hold.
 */
function pair (text: string): Credentials {
  const colon = text.indexOf(':')
  if (colon < 1) throw new FileProblem(neither)
  // Docker drops NUL characters around a password, and `echo … | base64` leaves a newline.
  const password = text.slice(colon + 1).replace(/^[ \t\r\n\0]+|[ \t\r\n\0]+$/g, '')
  return { kind: 'basic', username: checkLine(text.slice(0, colon)), password: checkLine(password) }
}

/** Returns the credentials that Docker's `config.json` has for a registry. Throws a {@link FileProblem}. */
function fromDockerConfig (bytes: Uint8Array, registry: URL, namespace: string): Credentials {
  const text = decodeText(bytes)
  if (text.trim() === '') throw new FileProblem('expected JSON, but the file is empty')
  let config: unknown
  try {
    config = JSON.parse(text)
  } catch {
    throw new FileProblem('expected a file that holds JSON')
  }
  if (!Value.Check(DockerConfig, config)) throw new FileProblem("expected Docker's config.json")
  if (config.credsStore !== undefined || config.credHelpers !== undefined) {
    throw new FileProblem(
      'expected a file without credsStore and credHelpers, for credential helpers are not supported'
    )
  }
  const auths = new Map(Object.entries(config.auths ?? {}).map(([key, auth]) => [place(key), auth]))
  const found = places(registry, namespace).map(name => auths.get(name)).find(auth => auth !== undefined)
  if (found === undefined) throw new FileProblem(`expected a file with auths for ${registry.host}`)
  const { auth, username, password, registrytoken: token, identitytoken } = found
  if (token) {
    if (!/^[\x21-\x7e]+$/.test(token)) throw new FileProblem('expected a registrytoken of printable characters')
    return { kind: 'bearer', token }
  }
  if (identitytoken) {
    throw new FileProblem('expected auth, username and password or registrytoken, for identitytoken is not supported')
  }
  if (auth) return pair(decodeUtf8(Buffer.from(auth, 'base64')))
  if (username && password !== undefined) return pair(`${username}:${password}`)
  throw new FileProblem(neither)
}

/**
 * Reads the `docker_config` of an instance, if it has one, at the start. Throws a `ConfigError` with `key` and `origin`
 * when it cannot be used.
 */
export async function checkDockerConfig (
  { docker_config: file, name, namespace, registry }: OciConfig,
  key = 'docker_config',
  origin = `instance ${name}`
): Promise<void> {
  if (file === undefined) return
  await checkFile({
    file,
    key,
    origin,
    limit: dockerConfigBytes,
    parse: bytes => fromDockerConfig(bytes, new URL(registry), namespace)
  })
}

/**
 * Returns the function that reads the credentials of a configured registry. It throws `config_error`, without paths and
 * values, when a file cannot be used.
 */
export function createCredentials (oci: OciConfig, registry: URL, log?: FileLog): CredentialSource {
  const { name: instance, username, token, namespace } = oci
  if (oci.docker_config !== undefined) {
    const file = oci.docker_config
    return createCredentialFile({
      file,
      key: 'docker_config',
      instance,
      log,
      limit: dockerConfigBytes,
      parse: bytes => fromDockerConfig(bytes, registry, namespace)
    })
  }
  const key = oci.token_file === undefined ? 'password_file' : 'token_file'
  const file = oci[key]
  const secret = createSecret({
    instance,
    key,
    ...(log && { log }),
    ...(token !== undefined && { value: token }),
    ...(file !== undefined && { file })
  })
  return async () => {
    const value = await secret()
    if (value === undefined) return { kind: 'anonymous' }
    return username === undefined ? { kind: 'bearer', token: value } : { kind: 'basic', username, password: value }
  }
}
