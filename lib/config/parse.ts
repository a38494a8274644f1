import { isIP } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { KindGuard, type TSchema } from '@sinclair/typebox'
import { Value, ValueErrorType, ValuePointer, type ValueError } from '@sinclair/typebox/value'
import { Config, corsOrigin, listenAddress, proxyAddress, type ServerConfig } from '../../schemas/config.ts'
import { isRegistryAddress, OciConfig } from '../../schemas/upstreams.ts'
import { isRepositoryName } from '../../schemas/oci.ts'
import { expectation, tableOf } from './keys.ts'
import { listenHost } from '../host-name.ts'

/** Path of a key: `['gitea', 0, 'url']`. */
export type KeyPath = ReadonlyArray<string | number>

/** Returns the source of the value of a key: a file or an environment variable. */
export type ValueOrigin = (path: KeyPath) => string

/** Returns a key in the notation of messages: `gitea[0].url`. */
export function formatKey (path: KeyPath): string {
  return path.map((part, index) => typeof part === 'number' ? `[${part}]` : index === 0 ? part : `.${part}`).join('')
}

/**
 * Error of a configuration that cannot be used. The message is one line with the key, the expected value and the source
 * of the value. It never contains the value, because a misplaced value may be a secret.
 */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  /** Error code of the API for a wrong configuration. */
  readonly code = 'config_error'
  /** Exit code of a process that stops because of this error: EX_CONFIG of sysexits. */
  readonly exitCode = 78
  readonly key: string

  constructor (key: string, problem: string, origin: string, options?: ErrorOptions) {
    // A quoted key and a file name may contain line breaks, which would split the message.
    super(`${key}: ${problem} (in ${origin})`.replace(/[\p{Cc}\u2028\u2029]+/gu, ' '), options)
    this.key = key
  }
}

/** Returns whether a value is a TOML table; a date is not a table. */
export function isTable (value: unknown): value is Record<string, unknown> {
  return Object.prototype.toString.call(value) === '[object Object]'
}

/** Returns a copy without keys that are `undefined`. A single table in place of a list of instances becomes a list. */
export function normalize (input: unknown): unknown {
  const copy = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(copy)
    if (!isTable(value)) return value
    return Object.fromEntries(
      Object.entries(value).filter(([, child]) => child !== undefined).map(([key, child]) => [key, copy(child)])
    )
  }
  const config = copy(input)
  if (!isTable(config)) return config
  return Object.fromEntries(Object.entries(config).map(([key, value]) => {
    const listed = Object.hasOwn(Config.properties, key) && Config.properties[key as keyof Config].type === 'array'
    return [key, listed && isTable(value) ? [value] : value]
  }))
}

function kindOf (value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  if (isTable(value)) return 'a table'
  if (value instanceof Date) return 'a date'
  return value === null ? 'null' : `a ${typeof value}`
}

function problemOf ({ type, schema, value }: ValueError): string {
  switch (type) {
    case ValueErrorType.ObjectAdditionalProperties:
      return `unknown key, expected one of ${Object.keys(tableOf(schema)?.properties ?? {}).join(', ')}`
    case ValueErrorType.ObjectRequiredProperty:
      return `missing, expected ${expectation(schema)}`
    case ValueErrorType.String:
    case ValueErrorType.Integer:
    case ValueErrorType.Number:
    case ValueErrorType.Boolean:
    case ValueErrorType.Array: return `expected ${expectation(schema)}, got ${kindOf(value)}`
    default: return `expected ${expectation(schema)}`
  }
}

function firstError (schema: TSchema, value: unknown, origin: ValueOrigin): ConfigError {
  const errors = [...Value.Errors(schema, value)]
  // A required key may be missing because it is misspelt, so an unknown key is reported first.
  const error = errors.find(({ type }) => type === ValueErrorType.ObjectAdditionalProperties) ?? errors[0]
  if (error === undefined) throw new TypeError('The value has no error')
  const path = [...ValuePointer.Format(error.path)].map(part => /^\d+$/.test(part) ? Number(part) : part)
  return new ConfigError(formatKey(path), problemOf(error), origin(path))
}

/**
 * Throws for a value that is not a table where a table is required. Without this check, filling in defaults would turn
 * an empty list or a date into a table.
 */
function checkTables (schema: TSchema, value: unknown, origin: ValueOrigin, path: KeyPath = []): void {
  if (value === undefined) return
  if (KindGuard.IsObject(schema)) {
    if (!isTable(value)) {
      throw new ConfigError(
        formatKey(path) || 'configuration',
        `expected ${expectation(schema)}, got ${kindOf(value)}`,
        origin(path)
      )
    }
    for (const [name, child] of Object.entries(schema.properties)) {
      checkTables(child, value[name], origin, [...path, name])
    }
  } else if (KindGuard.IsArray(schema) && Array.isArray(value)) {
    for (const [index, item] of value.entries()) checkTables(schema.items, item, origin, [...path, index])
  }
}

/** Keys of an OCI instance that apply to a server only. */
const serverKeys = [
  'discovery',
  'repositories',
  'token',
  'token_file',
  'username',
  'password_file',
  'docker_config',
  'public_url',
  'timeout_seconds',
  'verify_ssl',
  'ca_file',
  'redirect_hosts',
  'auth_hosts'
] as const satisfies ReadonlyArray<keyof OciConfig>

function checkOci (
  oci: OciConfig,
  at: KeyPath,
  refuse: (path: KeyPath, problem: string) => never,
  origin: ValueOrigin
): void {
  const { registry } = oci
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(registry)?.[1]?.toLowerCase()
  if (!isRegistryAddress(registry)) {
    if (scheme !== undefined && scheme !== 'file') {
      refuse(
        [...at, 'registry'],
        `expected an http:// or https:// address or a directory; ${scheme}:// is not supported`
      )
    }
    if (scheme === 'file' && !/^file:\/\/(?:localhost)?\//i.test(registry)) {
      refuse([...at, 'registry'], 'expected a file address of this machine: file:///…')
    }
    if (oci.download_urls === 'upstream') {
      refuse([...at, 'download_urls'], 'expected "gateway": files of a directory have no address of their own')
    }
    for (const key of serverKeys) {
      // A default that was filled in cannot be distinguished from an explicit value, so values equal to the default are
      // accepted.
      if (oci[key] !== undefined && !isDeepStrictEqual(oci[key], OciConfig.properties[key].default)) {
        refuse([...at, key], 'expected no such key for a directory')
      }
    }
    return
  }
  if (!/^https?:\/\/[^\s/\\@?#]+\/?$/i.test(registry) || !URL.canParse(registry)) {
    refuse(
      [...at, 'registry'],
      'expected an address without user, path and query; the prefix of the repository names is the namespace'
    )
  }
  const lower =
    'expected a name that a registry can have: lower-case letters and digits, with single dots, hyphens and ' +
      'underscores between them'
  if (oci.namespace !== '' && !isRepositoryName(oci.namespace)) refuse([...at, 'namespace'], lower)
  for (const [index, repository] of oci.repositories.entries()) {
    if (!isRepositoryName(repository)) refuse([...at, 'repositories', index], lower)
  }
  if (oci.public_url !== undefined && !URL.canParse(oci.public_url)) {
    refuse([...at, 'public_url'], 'expected a valid address')
  }
  if ((oci.username === undefined) !== (oci.password_file === undefined)) {
    refuse(
      [...at, oci.username === undefined ? 'username' : 'password_file'],
      'missing, expected username and password_file together'
    )
  }
  const [first, second] = (['token', 'token_file', 'username', 'docker_config'] as const).filter(key =>
    oci[key] !== undefined
  )
  if (second !== undefined) {
    refuse(
      [...at, second],
      `expected only one of token, token_file, username and docker_config, and ${first} is set in ${
        origin([...at, String(first)])
      }`
    )
  }
  if (oci.discovery === 'list' && oci.repositories.length === 0) {
    refuse([...at, 'repositories'], 'expected at least one, for discovery is list')
  }
  if (oci.discovery === 'harbor' && oci.namespace === '') {
    refuse([...at, 'namespace'], 'expected a project of Harbor, for discovery is harbor')
  }
}

/** Returns whether the address of a proxy, or its network in CIDR notation, can be compared with other addresses. */
function isProxyAddress (text: string): boolean {
  const [address = '', bits] = text.split('/')
  const longest = { 0: 0, 4: 32, 6: 128 }[isIP(address)] ?? 0
  return longest > 0 && (bits === undefined || (Number(bits) >= 1 && Number(bits) <= longest))
}

function checkServer (server: ServerConfig, refuse: (path: KeyPath, problem: string) => never): void {
  if (listenHost(server.host) === undefined) refuse(['server', 'host'], `expected ${listenAddress}`)
  for (const [index, proxy] of server.trusted_proxies.entries()) {
    if (!isProxyAddress(proxy)) refuse(['server', 'trusted_proxies', index], `expected ${proxyAddress}`)
  }
  if (server.trusted_proxies.length > 0 && !server.trust_proxy) {
    refuse(['server', 'trusted_proxies'], 'expected an empty list, for trust_proxy is false')
  }
  for (const [index, origin] of server.cors_origins.entries()) {
    if (origin !== '*' && !(URL.canParse(origin) && new URL(origin).origin === origin)) {
      refuse(['server', 'cors_origins', index], `expected ${corsOrigin}`)
    }
  }
}

/** Checks the rules that involve more than one key or that a schema cannot express. Throws a {@link ConfigError}. */
function checkRules (config: Config, origin: ValueOrigin): void {
  const refuse = (path: KeyPath, problem: string): never => {
    throw new ConfigError(formatKey(path), problem, origin(path))
  }
  const checkAddress = (path: KeyPath, address: string | undefined): void => {
    if (address !== undefined && !URL.canParse(address)) refuse(path, 'expected a valid address')
  }
  checkAddress(['server', 'public_url'], config.server.public_url)
  checkServer(config.server, refuse)
  for (const [index, gitea] of config.gitea.entries()) {
    checkAddress(['gitea', index, 'url'], gitea.url)
    checkAddress(['gitea', index, 'public_url'], gitea.public_url)
    if (gitea.token !== undefined && gitea.token_file !== undefined) {
      refuse(
        ['gitea', index, 'token_file'],
        `expected only one of token and token_file, and token is set in ${origin(['gitea', index, 'token'])}`
      )
    }
  }
  for (const [index, oci] of config.oci.entries()) checkOci(oci, ['oci', index], refuse, origin)
  const names = new Set<string>()
  for (const kind of ['gitea', 'oci'] as const) {
    for (const [index, { name }] of config[kind].entries()) {
      if (names.has(name)) refuse([kind, index, 'name'], 'expected a name that no other instance has')
      names.add(name)
    }
  }
}

/**
 * Returns a validated configuration with defaults. Every key with a default is optional, and `gitea` and `oci` may be
 * one table instead of a list. Throws a {@link ConfigError}. The input is not changed.
 */
export function parseConfig (input: unknown, origin: ValueOrigin = () => 'the option config'): Config {
  const given = normalize(input)
  checkTables(Config, given, origin)
  const value: unknown = Value.Default(Config, given)
  if (!Value.Check(Config, value)) throw firstError(Config, value, origin)
  checkRules(value, origin)
  return value
}
