import { Type, type Static, type TSchema } from '@sinclair/typebox'

/**
 * A typed reference to a schema that was added to the server with `addSchema`. In the OpenAPI document it becomes
 * `#/components/schemas/{$id}`; for TypeScript it is the schema's own static type (`Type.Ref('X')` alone would be
 * `unknown`).
 */
export const Ref = <T extends TSchema>(schema: T) => Type.Unsafe<Static<T>>(Type.Ref(schema.$id ?? ''))
