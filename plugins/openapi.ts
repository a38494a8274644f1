import { isDeepStrictEqual } from 'node:util'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { componentName } from './schemas.ts'

/** Version of the HTTP API, which its paths carry; the service has one of its own. */
const apiVersion = '1.0.0'

/** What Swagger UI needs, and nothing from anywhere else. */
const contentSecurityPolicy = {
  'default-src': ["'self'"],
  'img-src': ["'self'", 'data:'],
  'style-src': ["'self'", "'unsafe-inline'"],
  'object-src': ["'none'"],
  'base-uri': ["'self'"],
  'frame-ancestors': ["'self'"]
}

type Document = Extract<ReturnType<FastifyInstance['swagger']>, { openapi: string }>
type Parts = Record<string, object>
interface Answer { headers?: Parts }

/** The document with what many answers share written once, as components: their headers, and the answers to errors. */
function share (document: Document): Document {
  const headers: Parts = {}
  const responses: Parts = {}
  /** A reference to a part in `shared`; the part itself where another has its name. */
  const hoist = (shared: Parts, kind: string, name: string, part: object): object => {
    shared[name] ??= part
    return isDeepStrictEqual(shared[name], part) ? { $ref: `#/components/${kind}/${name}` } : part
  }
  const shareAnswer = (status: string, answer: Answer): object => {
    const named = Object.entries(answer.headers ?? {}).map(([name, header]): [string, object] => [name, hoist(headers, 'headers', name, header)])
    const shared = named.length > 0 ? { ...answer, headers: Object.fromEntries(named) } : answer
    return Number(status) >= 400 ? hoist(responses, 'responses', `Error${status}`, shared) : shared
  }
  const paths = Object.fromEntries(Object.entries(document.paths ?? {}).map(([path, operations]) => [path, Object.fromEntries(
    Object.entries(operations as Record<string, { operationId: string, responses: Record<string, Answer> }>).map(([method, operation]) => [method, {
      ...operation,
      // To ids of HEAD a suffix was added that no client can have as a function's name; each of ours has its own.
      operationId: operation.operationId.replace(/-head$/, ''),
      responses: Object.fromEntries(Object.entries(operation.responses).map(([status, answer]) => [status, shareAnswer(status, answer)]))
    }])
  )]))
  // A copy by way of JSON has no part twice, so that YAML has no anchors.
  return JSON.parse(JSON.stringify({ ...document, paths, components: { ...document.components, headers, responses } })) as Document
}

export interface OpenapiDocument {
  json: () => object
  yaml: () => string
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The OpenAPI document of this registry's own routes: an object, or YAML. */
    openapiDocument: OpenapiDocument
  }
}

type Swagger = FastifyInstance['swagger']
const document = (swagger: () => Swagger): OpenapiDocument => ({
  json: () => swagger()(),
  yaml: () => swagger()({ yaml: true })
})

async function openapi (fastify: FastifyInstance): Promise<void> {
  // A host may have a document of its own: then ours stands under another name, without a page.
  const hosted = fastify.hasDecorator('swagger')
  const decorator = hosted ? 'registrySwagger' : 'swagger'
  await fastify.register(swagger, {
    decorator,
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Extension registry',
        description: 'One read-only catalog over infrastructure extensions (providers, taskservs and clusters) that are published as Gitea releases and as OCI artifacts.',
        version: apiVersion,
        license: { name: 'MIT', identifier: 'MIT' }
      },
      servers: [{ url: '/', description: 'The registry that serves this document; by default http://localhost:8082' }],
      tags: [
        { name: 'extensions', description: 'What exists, which versions, and the files' },
        { name: 'system', description: 'Health, metrics and statistics of the service' }
      ],
      security: []
    },
    transformObject: input => 'openapiObject' in input ? share(input.openapiObject as Document) : input.swaggerObject,
    refResolver: { buildLocalReference: (json, _baseUri, _fragment, at) => typeof json.$id === 'string' ? componentName(json.$id) : `def-${at}` }
  } as Parameters<typeof swagger>[1])

  fastify.decorate('openapiDocument', document(() => (fastify as unknown as Record<string, Swagger>)[decorator] as Swagger))

  if (hosted) return
  await fastify.register(swaggerUi, {
    routePrefix: '/docs',
    indexPrefix: fastify.prefix,
    staticCSP: contentSecurityPolicy,
    uiConfig: { deepLinking: true, tryItOutEnabled: true, displayRequestDuration: true, validatorUrl: null },
    theme: { title: 'Extension registry' }
  })
}

export default fp(openapi, { name: 'registry-openapi', fastify: '5.x', dependencies: ['registry-schemas'] })
