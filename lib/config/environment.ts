import { resolve } from 'node:path'
import { ConfigError, formatKey, type KeyPath } from './parse.ts'
import { Config } from '../../schemas/config.ts'
import { configKeys, type ConfigKey } from './keys.ts'

/** A key that an environment variable sets. */
export interface Setting {
  path: KeyPath
  variable: string
  value: unknown
}

const booleans = new Map([['true', true], ['1', true], ['false', false], ['0', false]])
const scheme = /^[a-z][a-z0-9+.-]*:\/\//i

/**
 * Whether Kubernetes makes such a variable for a Service: one named `registry-gitea` gives every container
 * `REGISTRY_GITEA_SERVICE_HOST`, `REGISTRY_GITEA_PORT=tcp://10.0.0.1:3000`, `REGISTRY_GITEA_PORT_3000_TCP_ADDR`, …
 */
function isServiceVariable (name: string, value: string): boolean {
  return /_SERVICE_HOST$|_SERVICE_PORT(_.+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name) ||
    (name.endsWith('_PORT') && scheme.test(value))
}

/** An absolute path or an address, from a path that may be relative to `base`. */
export function absolutePath (base: string, path: string): string {
  return path === '' || scheme.test(path) ? path : resolve(base, path)
}

function convert (key: ConfigKey, text: string, cwd: string): unknown {
  switch (key.type) {
    case 'integer': return /^[+-]?\d+$/.test(text) ? Number(text) : undefined
    case 'number': return /^[+-]?\d+(?:\.\d+)?$/.test(text) ? Number(text) : undefined
    case 'boolean': return booleans.get(text.toLowerCase())
    case 'list': return text.split(',').map(item => item.trim()).filter(item => item !== '')
    case 'string': return key.path ? absolutePath(cwd, text) : text
  }
}

/** Where a key of a section is: instances are set through their first one. */
function pathOf (section: string, names: readonly string[]): KeyPath {
  const listed = Config.properties[section as keyof Config].type === 'array'
  return [section, ...(listed ? [0] : []), ...names]
}

/**
 * What `REGISTRY_<SECTION>_<KEY>` variables set, each of its key's type. An empty one is unset, and any other name is
 * left alone. Throws a `ConfigError` for a key that a known section does not have, and for a value that is not of its
 * key's type.
 */
export function readEnvironment (env: NodeJS.ProcessEnv, cwd: string): Setting[] {
  return Object.entries(env).flatMap(([variable, raw = '']) => {
    const text = raw.trim()
    const section = Object.keys(Config.properties).find(name => variable.startsWith(`REGISTRY_${name.toUpperCase()}_`))
    if (section === undefined || text === '' || isServiceVariable(variable, text)) return []
    const key = configKeys.find(({ environment }) => environment === variable)
    if (key === undefined) {
      const name = variable.slice(`REGISTRY_${section}_`.length).toLowerCase()
      const known = configKeys.filter(({ parts }) => parts[0] === section).map(({ parts }) => parts.slice(1).join('.'))
      throw new ConfigError(
        formatKey(pathOf(section, [name])),
        `unknown key, expected one of ${known.join(', ')}`,
        variable
      )
    }
    const path = pathOf(section, key.parts.slice(1))
    const value = convert(key, text, cwd)
    if (value === undefined) throw new ConfigError(formatKey(path), `expected ${key.expected}`, variable)
    return [{ path, variable, value }]
  })
}
