import { readFile } from 'node:fs/promises'
import { findPackageJSON } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { getSystemErrorMessage } from 'node:util'
import { parse, TomlError } from 'smol-toml'
import type { Config } from '../../schemas/config.ts'
import { decodeText, FileProblem } from '../watched-file.ts'
import { ConfigError, formatKey, isTable, normalize, parseConfig, type KeyPath, type ValueOrigin } from './parse.ts'
import { absolutePath, readEnvironment } from './environment.ts'
import { configKeys } from './keys.ts'

export interface ConfigSources {
  /** TOML file; if unset, the file that `REGISTRY_CONFIG` names. */
  file?: string | undefined
  env: NodeJS.ProcessEnv
  /** Base directory of relative paths on the command line and in the environment. */
  cwd: string
}

export interface LoadedConfig {
  config: Config
  /** Whether no backend is configured, so that the project's examples are served. */
  embedded: boolean
  /** Returns the source of the value of a key. */
  origin: ValueOrigin
}

type Table = Record<string, unknown>

/**
 * Returns the reason why a file could not be read or parsed. It omits the text at the error, because that may contain a
 * token.
 */
function reasonOf (error: unknown): string {
  if (error instanceof TomlError) {
    const [reason = ''] = error.message.replace('Invalid TOML document: ', '').split('\n', 1)
    return `expected TOML, but line ${error.line}, column ${error.column}: ${reason}`
  }
  if (error instanceof FileProblem) return error.message
  if (
    error instanceof Error && 'errno' in error && typeof error.errno === 'number'
  ) { return `expected a file that can be read: ${getSystemErrorMessage(error.errno)}` }
  throw error
}

async function readDocument (file: string, key: string): Promise<Table> {
  try {
    return normalize(parse(decodeText(await readFile(file)))) as Table
  } catch (error) {
    // The error has no cause, because the message of the cause contains a part of the file.
    throw new ConfigError(key, reasonOf(error), file)
  }
}

/** Resolves the relative paths in a file against the directory of the file. */
function resolvePaths (document: Table, directory: string): void {
  for (const { parts: [section, name = ''] } of configKeys.filter(({ path }) => path)) {
    for (const table of [document[section]].flat().filter(isTable)) {
      const path = table[name]
      if (typeof path === 'string') table[name] = absolutePath(directory, path)
    }
  }
}

/**
 * Sets a key, and creates the tables on its path. A value on the path that is not a table is kept; validation refuses
 * it later.
 */
function place (container: unknown, [first, ...rest]: KeyPath, value: unknown): void {
  if (first === undefined || typeof container !== 'object' || container === null) return
  const table = container as Record<string | number, unknown>
  if (rest.length === 0) table[first] = value
  else place(table[first] ??= typeof rest[0] === 'number' ? [] : {}, rest, value)
}

function hasBackend (input: Table): boolean {
  return [input['gitea'] ?? [], input['oci'] ?? []].flat().length > 0
}

/** Returns the directory of this project's examples, independent of the place of installation. */
function examples (): string {
  return join(dirname(findPackageJSON(import.meta.url) ?? ''), 'examples', 'registry')
}

/**
 * Returns the configuration of a process: a TOML file, whose values environment variables override. Without a file and
 * without a backend in the environment, it serves the project's examples. Throws a {@link ConfigError}.
 */
export async function loadConfig ({ file, env, cwd }: ConfigSources): Promise<LoadedConfig> {
  const named = file ?? (env['REGISTRY_CONFIG'] || undefined)
  const path = named === undefined ? undefined : resolve(cwd, named)
  const document = path === undefined
    ? {}
    : await readDocument(path, file === undefined ? 'REGISTRY_CONFIG' : '--config')
  const sections = new Set(Object.keys(document))
  if (path !== undefined) resolvePaths(document, dirname(path))

  const variables = new Map<string, string>()
  for (const setting of readEnvironment(env, cwd)) {
    place(document, setting.path, setting.value)
    variables.set(formatKey(setting.path), setting.variable)
  }
  const origin: ValueOrigin = (key) => {
    const variable = key.map((_, index) => variables.get(formatKey(key.slice(0, index + 1)))).find(name =>
      name !== undefined
    )
    if (variable !== undefined) return variable
    if (path !== undefined && sections.has(String(key[0]))) return path
    const known = key.filter(part => typeof part === 'string').join('.')
    return configKeys.find(candidate => candidate.key === known)?.environment ?? 'the environment'
  }

  const embedded = !hasBackend(document)
  if (embedded && path !== undefined) {
    parseConfig(document, origin)
    throw new ConfigError('gitea', 'missing, expected a [[gitea]] or an [[oci]] table', path)
  }
  const config = parseConfig(embedded ? { ...document, oci: { registry: examples() } } : document, origin)
  if (!embedded || config.server.public_url !== undefined || config.server.port === 0) {
    return { config, embedded, origin }
  }
  return {
    origin,
    config: { ...config, server: { ...config.server, public_url: `http://localhost:${config.server.port}` } },
    embedded
  }
}
