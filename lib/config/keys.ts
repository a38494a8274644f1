import { KindGuard, type TObject, type TSchema } from '@sinclair/typebox'
import { Config } from '../../schemas/config.ts'
import { enumValues } from '../../schemas/string-enum.ts'

/** One thing that can be configured, as the schema tells it. */
export interface ConfigKey {
  /** Its place, without the number of an instance: `gitea.mapping.provider`. */
  key: string
  /** The same in parts, the first of which is the section. */
  parts: readonly [section: string, ...names: string[]]
  /** The environment variable that sets it; for `gitea` and `oci` that of the first instance. */
  environment: string
  type: 'string' | 'integer' | 'number' | 'boolean' | 'list'
  /** What its value may be, in words. */
  expected: string
  /** Whether a configuration without it is refused. */
  required: boolean
  /** Absent when the key has no default. */
  default?: unknown
  description: string
  /** What a value could look like, for a key without default. */
  example?: unknown
  /** Whether its value must never be shown. */
  secret: boolean
  /** Whether its value is a path that may be relative. */
  path: boolean
}

/** The table that a schema stands for: its own, or that of its items when it is a list of tables. */
export function tableOf (schema: TSchema): TObject | undefined {
  const table = KindGuard.IsArray(schema) ? schema.items : schema
  return KindGuard.IsObject(table) ? table : undefined
}

/** What a schema accepts, in words that a person can act on. */
export function expectation (schema: TSchema): string {
  if (typeof schema['expected'] === 'string') return schema['expected']
  const values = enumValues(schema)
  if (values !== undefined) return `one of ${values.join(', ')}`
  if (KindGuard.IsInteger(schema)) return `an integer from ${schema.minimum} to ${schema.maximum}`
  if (KindGuard.IsNumber(schema)) return `a number from ${schema.minimum} to ${schema.maximum}`
  if (KindGuard.IsBoolean(schema)) return 'true or false'
  if (KindGuard.IsArray(schema)) {
    return tableOf(schema) === undefined
      ? 'a list of strings'
      : 'a table or a list of tables'
  }
  if (KindGuard.IsObject(schema)) return 'a table'
  return schema['minLength'] === undefined ? 'a string' : 'a string that is not empty'
}

function typeOf (schema: TSchema): ConfigKey['type'] {
  return KindGuard.IsInteger(schema)
    ? 'integer'
    : KindGuard.IsNumber(schema)
      ? 'number'
      : KindGuard.IsBoolean(schema)
        ? 'boolean'
        : KindGuard.IsArray(schema)
          ? 'list'
          : 'string'
}

function keysOf (table: TObject, parents: readonly string[]): ConfigKey[] {
  return Object.entries(table.properties).flatMap(([name, schema]) => {
    const below = tableOf(schema)
    if (below !== undefined) return keysOf(below, [...parents, name])
    const parts: ConfigKey['parts'] = [parents[0] ?? name, ...parents.slice(1), name]
    const examples: unknown = schema.examples
    return [{
      key: parts.join('.'),
      parts,
      environment: ['REGISTRY', ...parts].join('_').toUpperCase(),
      type: typeOf(schema),
      expected: expectation(schema),
      required: schema.default === undefined && !KindGuard.IsOptional(schema),
      ...(schema.default !== undefined && { default: schema.default as unknown }),
      description: schema.description ?? '',
      ...(Array.isArray(examples) && { example: examples[0] as unknown }),
      secret: schema['secret'] === true,
      path: schema['path'] === true
    }]
  })
}

/**
 * Everything that can be configured, in the schema's order: the documentation and the environment variables are made of
 * this.
 */
export const configKeys: readonly ConfigKey[] = keysOf(Config, [])
