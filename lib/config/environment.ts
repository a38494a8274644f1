import { resolve } from 'node:path'
import { ConfigError, formatKey, type KeyPath } from './parse.ts'
import { Config } from '../../schemas/config.ts'
import { configKeys, type ConfigKey } from './keys.ts'

/** A key that is set by an environment variable, and its value. */
export interface Setting {
  path: KeyPath
  variable: string
  value: unknown
}

const booleans = new Map([['true', true], ['1', true], ['false', false], ['0', false]])
const scheme = /^[a-z][a-z0-9+.-]*:\/\//i

/**
 * Returns whether Kubernetes sets such a variable for a Service. A Service `registry-gitea` gives every container
 * `REGISTRY_GITEA_SERVICE_HOST`, `REGISTRY_GITEA_PORT=tcp://10.0.0.1:3000`, `REGISTRY_GITEA_PORT_3000_TCP_ADDR`, …
 */
function isServiceVariable (name: string, value: string): boolean {
  return /_SERVICE_HOST$|_SERVICE_PORT(_.+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name) ||
    (name.endsWith('_PORT') && scheme.test(value))
}

/** Returns the absolute form of a path that may be relative to `base`; an address is returned unchanged. */
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

/** Returns the path of a key of a section. For a list of instances it is the key of the first instance. */
function pathOf (section: string, names: readonly string[]): KeyPath {
  const listed = Config.properties[section as keyof Config].type === 'array'
  return [section, ...(listed ? [0] : []), ...names]
}

/**
 * Returns the settings from `REGISTRY_<SECTION>_<KEY>` variables, each with the type of its key. Empty variables and
 * variables with other names are ignored. Throws a `ConfigError` for an unknown key of a known section, and for a value
 * of the wrong type.
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
