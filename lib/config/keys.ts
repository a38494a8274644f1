import { KindGuard, type TObject, type TSchema } from '@sinclair/typebox'
import { Config } from '../../schemas/config.ts'
import { enumValues } from '../../schemas/string-enum.ts'

/** A key of the configuration, as its schema describes it. */
export interface ConfigKey {
  /** Path of the key, without the number of an instance: `gitea.mapping.provider`. */
  key: string
  /** Parts of the path; the first one is the section. */
  parts: readonly [section: string, ...names: string[]]
  /** Environment variable that sets the key; for `gitea` and `oci`, the key of the first instance. */
  environment: string
  type: 'string' | 'integer' | 'number' | 'boolean' | 'list'
  /** Description of the allowed values. */
  expected: string
  /** Whether a configuration without the key is refused. */
  required: boolean
  /** Default value; absent when the key has no default. */
  default?: unknown
  description: string
  /** Example of a value, for a key without a default. */
  example?: unknown
  /** Whether the value must never be shown. */
  secret: boolean
  /** Whether the value is a path that may be relative. */
  path: boolean
}

/** Returns the schema of a table, or of the items of a list of tables; undefined for other schemas. */
export function tableOf (schema: TSchema): TObject | undefined {
  const table = KindGuard.IsArray(schema) ? schema.items : schema
  return KindGuard.IsObject(table) ? table : undefined
}

/** Returns the description of the values that a schema accepts, for error messages. */
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
 * All keys of the configuration, in the order of the schema. The documentation and the environment variables are
 * generated from them.
 */
export const configKeys: readonly ConfigKey[] = keysOf(Config, [])
