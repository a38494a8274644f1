import { Type, type Static, type TSchema } from '@sinclair/typebox'

/**
 * Returns a typed reference to a schema that was added to the server with `addSchema`. In the OpenAPI document it is
 * `#/components/schemas/{$id}`. In TypeScript it has the static type of the schema, while that of `Type.Ref('X')` is
 * `unknown`.
 */
export const Ref = <T extends TSchema>(schema: T) => Type.Unsafe<Static<T>>(Type.Ref(schema.$id ?? ''))
