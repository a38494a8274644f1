import { Kind, Type, TypeRegistry, type SchemaOptions, type TSchema, type TUnsafe } from '@sinclair/typebox'
import type { DefaultOf } from './input.ts'

/** Name of the kind in TypeBox's registry, which all users of one copy of TypeBox share. */
const kind = 'ExtensionRegistryStringEnum'

/** Returns the values of a schema made by {@link StringEnum}; undefined for any other schema. */
export const enumValues = (schema: TSchema): readonly string[] | undefined =>
  schema[Kind] === kind ? schema['enum'] as string[] : undefined

// TypeBox checks no `enum` by itself: the configuration and the snapshots are checked by it, requests by Ajv.
TypeRegistry.Set<TSchema>(kind, (schema, value) =>
  typeof value === 'string' && enumValues(schema)?.includes(value) === true)

/**
 * Returns the schema of a string limited to a list of values, as `type: string, enum: […]`. It gives one plain message
 * on a bad value, and every OpenAPI tool understands it; a union of literals has neither property.
 */
export const StringEnum = <const T extends readonly string[], O extends SchemaOptions & { default?: T[number] }>(
  values: T, options?: O
) =>
    Type.Unsafe<T[number]>({
      [Kind]: kind, type: 'string', enum: [...values], ...options
    }) as TUnsafe<T[number]> & DefaultOf<O>
