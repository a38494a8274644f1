import { AjvCompiler } from '@fastify/ajv-compiler'
import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import type { TSchema } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { CacheStats } from '../schemas/cache-stats.ts'
import { ErrorResponse } from '../schemas/error.ts'
import { Extension, ExtensionSource, ExtensionType, ExtensionVersion } from '../schemas/extension.ts'
import { BackendHealth, BackendStatus, HealthResponse, InstanceStatus, ProbeResponse } from '../schemas/health.ts'
import { parameterErrorOf } from '../schemas/parameter-error.ts'

/** Named components of the API. Their ids have a prefix, because a host may have its own `Extension`. */
const components: TSchema[] = [
  ExtensionType,
  ExtensionSource,
  Extension,
  ExtensionVersion,
  InstanceStatus,
  BackendStatus,
  BackendHealth,
  HealthResponse,
  ProbeResponse,
  CacheStats,
  ErrorResponse
]

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null

/** Returns the name of a component in the OpenAPI document. */
export const componentName = (id: string): string => id.replace(/^registry\./, '')

/**
 * Returns whether all references of a schema, given as JSON, are known. A schema with an unknown reference, such as one
 * of a host, must fail at the start.
 */
const refersTo = (schema: string, known: Record<string, object>): boolean =>
  [...schema.matchAll(/"\$ref":"([^"#]*)/g)].every(([, id = '']) => id in known)

/** Returns the text of a schema and of the errors of its parameters, which JSON alone would not contain. */
const keyOf = (schema: unknown): string =>
  JSON.stringify(schema, (_, value: unknown) => {
    const error = isObject(value) ? parameterErrorOf(value) : undefined
    return error === undefined ? value : { ...value as object, error }
  })

/** Creates a function at its first call, because a process uses few of its serializers, and at the start only one. */
function whenUsed<A extends unknown[], R> (make: () => (...given: A) => R): (...given: A) => R {
  let made: ((...given: A) => R) | undefined
  return (...given) => (made ??= make())(...given)
}

/**
 * Sets Fastify's default validation and serialization, independent of the host's. Parameters are coerced, and responses
 * contain only the properties of their schemas.
 */
async function schemas (fastify: FastifyInstance): Promise<void> {
  for (const component of components) {
    // A host may have added the exported schemas for its own routes. A different schema with the same id fails here.
    const known = fastify.getSchema(component.$id ?? '')
    if (JSON.stringify(known) !== JSON.stringify(component)) fastify.addSchema(component)
  }
  const known = fastify.getSchemas() as Record<string, object>
  // Without `strictNumbers: false` the text `Infinity` becomes a number that passes every limit. With `verbose` an
  // error contains the value.
  const validator = AjvCompiler()(known, {
    customOptions: { strictNumbers: false, validateSchema: false, verbose: true }
  })
  // A HEAD route has copies of the schemas of its GET route, and Ajv would compile each copy.
  const validators = new Map<string, ReturnType<typeof validator>>()
  fastify.setValidatorCompiler(route => {
    // A query parameter without a declaration is removed here: a handler receives only the parameters of its schema.
    const schema = route.httpPart === 'querystring'
      ? { additionalProperties: false, ...route.schema as object }
      : route.schema
    const key = keyOf(schema)
    const validate = validators.get(key) ?? validator({ ...route, schema })
    validators.set(key, validate)
    return validate
  })
  // A host's serializer of replies would replace the serializers of the schemas.
  fastify.setReplySerializer(null as never)
  const serializer = SerializerSelector()(known)
  // All routes have the same error schemas, so equal schemas are compiled once.
  const compiled = new Map<string, ReturnType<typeof serializer>>()
  fastify.setSerializerCompiler(({ httpStatus = '', ...route }) => {
    const key = JSON.stringify(route.schema)
    const make = () => serializer({ httpStatus, ...route })
    const made = compiled.get(key) ?? (refersTo(key, known) ? whenUsed(make) : make())
    compiled.set(key, made)
    return made
  })
}

export default fp(schemas, { name: 'registry-schemas', fastify: '5.x' })
