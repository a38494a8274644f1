import { AjvCompiler } from '@fastify/ajv-compiler'
import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import type { TSchema } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { CacheStats } from '../schemas/cache-stats.ts'
import { ErrorResponse } from '../schemas/error.ts'
import { Extension, ExtensionSource, ExtensionType, ExtensionVersion } from '../schemas/extension.ts'
import { BackendHealth, BackendStatus, HealthResponse, InstanceStatus, ProbeResponse } from '../schemas/health.ts'

/** The API's named components. Their ids have a prefix, since a host may have an `Extension` of its own. */
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

/** A component's name in the OpenAPI document. */
export const componentName = (id: string): string => id.replace(/^registry\./, '')

/**
 * Whether a schema, as JSON, refers to nothing but these. One that refers to what is not there is to fail at the start:
 * a host's may.
 */
const refersTo = (schema: string, known: Record<string, object>): boolean =>
  [...schema.matchAll(/"\$ref":"([^"#]*)/g)].every(([, id = '']) => id in known)

/**
 * A function that is made when it is first called: of all serializers a process uses few, and one that has just started
 * none but one.
 */
function whenUsed<A extends unknown[], R> (make: () => (...given: A) => R): (...given: A) => R {
  let made: ((...given: A) => R) | undefined
  return (...given) => (made ??= make())(...given)
}

/**
 * Validation and serialization as Fastify does them by default, whatever the host uses for its own routes: parameters
 * are coerced, and answers are what their schemas say.
 */
async function schemas (fastify: FastifyInstance): Promise<void> {
  for (const component of components) {
    // A host may have added the exported schemas for its own routes. Another schema of the same id fails here.
    const known = fastify.getSchema(component.$id ?? '')
    if (JSON.stringify(known) !== JSON.stringify(component)) fastify.addSchema(component)
  }
  const known = fastify.getSchemas() as Record<string, object>
  // Without `strictNumbers: false` the text `Infinity` becomes a number that passes every limit. `verbose` puts the
  // value on an error.
  const validator = AjvCompiler()(known, {
    customOptions: { strictNumbers: false, validateSchema: false, verbose: true }
  })
  // A query parameter without a declaration is removed here: a handler cannot pass on what its schema does not name.
  fastify.setValidatorCompiler(route =>
    validator(
      route.httpPart === 'querystring'
        ? { ...route, schema: { additionalProperties: false, ...route.schema as object } }
        : route
    )
  )
  // A host's serializer of replies would replace the serializers of the schemas.
  fastify.setReplySerializer(null as never)
  const serializer = SerializerSelector()(known)
  // Every route has the same errors: what is written alike is compiled once.
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
