import { Kind, Type, TypeRegistry, type SchemaOptions, type TSchema, type TUnsafe } from '@sinclair/typebox'
import type { DefaultOf } from './input.ts'

/** Name of the kind in the registry of TypeBox, which all users of one copy of TypeBox share. */
const kind = 'ExtensionRegistryStringEnum'

/** Returns the values of a schema made by {@link StringEnum}; undefined for any other schema. */
export const enumValues = (schema: TSchema): readonly string[] | undefined =>
  schema[Kind] === kind ? schema['enum'] as string[] : undefined

// TypeBox does not check `enum` itself. The configuration and the snapshots are checked by TypeBox, requests by Ajv.
TypeRegistry.Set<TSchema>(kind, (schema, value) =>
  typeof value === 'string' && enumValues(schema)?.includes(value) === true)

/**
 * Returns the schema of a string that is limited to a list of values, as `type: string, enum: […]`. In contrast to a
 * union of literals, an invalid value has a single error, and every OpenAPI tool supports the schema.
 */
export const StringEnum = <const T extends readonly string[], O extends SchemaOptions & { default?: T[number] }>(
  values: T, options?: O
) =>
    Type.Unsafe<T[number]>({
      [Kind]: kind, type: 'string', enum: [...values], ...options
    }) as TUnsafe<T[number]> & DefaultOf<O>
