import { isDeepStrictEqual } from 'node:util'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { componentName } from './validation.ts'

/** Version of the HTTP API in its paths; the package has a separate version. */
const apiVersion = '1.0.0'

/** Content security policy of Swagger UI: it allows only its own sources. */
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
interface ResponseObject { headers?: Parts }
interface Operation { operationId: string, responses: Record<string, ResponseObject> }

/**
 * Returns a reference to the component `name`, which is added to `shared` if it is new. Returns `part` itself when it
 * differs from the existing component.
 */
function hoist (shared: Parts, kind: string, name: string, part: object): object {
  shared[name] ??= part
  return isDeepStrictEqual(shared[name], part) ? { $ref: `#/components/${kind}/${name}` } : part
}

/** Returns the document with shared headers and error responses as components, each written once. */
function share (document: Document): Document {
  // A copy by JSON contains no object twice, so that YAML needs no anchors. The copy can also be changed safely.
  const copy = JSON.parse(JSON.stringify(document)) as Document
  const headers: Parts = {}
  const responses: Parts = {}
  const operations = Object.values(copy.paths ?? {}).flatMap(path => Object.values(path as Record<string, Operation>))
  // Headers are processed first, because responses refer to them.
  for (const operation of operations) {
    for (const { headers: own = {} } of Object.values(operation.responses)) {
      for (const [name, header] of Object.entries(own)) own[name] = hoist(headers, 'headers', name, header)
    }
  }
  for (const operation of operations) {
    // @fastify/swagger appends a suffix to operation ids of HEAD, which is invalid in function names. The ids are
    // unique without it.
    operation.operationId = operation.operationId.replace(/-head$/, '')
    for (const [status, response] of Object.entries(operation.responses)) {
      if (Number(status) >= 400) operation.responses[status] = hoist(responses, 'responses', `Error${status}`, response)
    }
  }
  return { ...copy, components: { ...copy.components, headers, responses } } as Document
}

/**
 * The OpenAPI document. `address` is its path below the registry's prefix, such as `/openapi.json`. The server URL is
 * then relative to that address, so that it is correct below the prefix of any proxy. Without `address` it is `/`.
 */
export interface OpenapiDocument {
  json: (address?: string) => object
  yaml: (address?: string) => string
}

declare module 'fastify' {
  interface FastifyInstance {
    /** OpenAPI document of this registry's own routes, as an object or as YAML. */
    openapiDocument: OpenapiDocument
  }
}

type Swagger = FastifyInstance['swagger']

/** Server URL of the document; paths are appended to it. */
const rootServer = '/'
const serverLine = (url: string): string => `\nservers:\n  - url: ${url}\n`

/**
 * Returns the URL reference from a document to the root of its paths, which include the registry's prefix. A client
 * resolves it against the address of the document (OpenAPI 3.1, section 4.6).
 */
export function relativeServer (prefix: string, address: string): string {
  const levels = `${prefix}${address}`.split('/').filter(segment => segment !== '').length - 1
  return levels === 0 ? '.' : Array.from({ length: levels }, () => '..').join('/')
}

function createOpenapiDocument (swagger: () => Swagger, prefix: string): OpenapiDocument {
  const written = new Map<string, string>()
  return {
    json (address) {
      const document = swagger()() as Document
      if (address === undefined) return document
      return {
        ...document,
        servers: document.servers?.map(server => ({ ...server, url: relativeServer(prefix, address) }))
      }
    },
    yaml (address) {
      const document = swagger()({ yaml: true })
      if (address === undefined) return document
      const text = written.get(address) ??
        document.replace(serverLine(rootServer), serverLine(relativeServer(prefix, address)))
      written.set(address, text)
      return text
    }
  }
}

const pagePath = '/docs'

/**
 * Redirects addresses of the page that Swagger UI does not serve correctly. With a query its script requests a wrong
 * address for the document, and its own redirect of `index.html` omits the prefix of a proxy. These redirects are
 * relative.
 */
const redirectPage: onRequestHookHandler = (request, reply, done) => {
  const [path = '', query] = request.url.split('?', 2)
  if (/\/static\/(?:index\.html)?$/.test(path)) reply.redirect('../')
  else if (query === undefined || !/\/docs\/?$/.test(path)) done()
  else reply.redirect(path.endsWith('/') ? './' : `.${pagePath}`)
}

/**
 * Serves Swagger UI in a scope in which `swagger` is the registry's document, even if the host has a document of its
 * own.
 */
async function openapiPage (scope: FastifyInstance): Promise<void> {
  const { openapiDocument } = scope
  scope.decorate('swagger', ((options?: { yaml?: boolean }) => options?.yaml === true
    ? openapiDocument.yaml(`${pagePath}/yaml`)
    : openapiDocument.json(`${pagePath}/json`)) as Swagger)
  scope.addHook('onRequest', redirectPage)
  await scope.register(swaggerUi, {
    routePrefix: pagePath,
    // The page at `/docs` needs this prefix for its assets; the page at `/docs/` always has relative references.
    indexPrefix: '.',
    staticCSP: contentSecurityPolicy,
    uiConfig: { deepLinking: true, tryItOutEnabled: true, displayRequestDuration: true, validatorUrl: null },
    theme: { title: 'Extension registry' }
  })
}

async function openapi (fastify: FastifyInstance): Promise<void> {
  // The decorator has its own name, because the host may also have a document.
  const decorator = 'registrySwagger'
  await fastify.register(
    swagger,
    {
      decorator,
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Extension registry',
          description:
            'One read-only catalog over infrastructure extensions (providers, taskservs and clusters) that are ' +
            'published as Gitea releases and as OCI artifacts.\n\n' +
            'Unknown query parameters are ignored. A path responds to methods other than its own, `OPTIONS` and ' +
            '`TRACE` included, with status 405, ' +
            '`Allow` and the error `method_not_allowed`; an unknown path with 404 and `not_found`. CORS preflights ' +
            'are the only exception.',
          version: apiVersion,
          license: { name: 'MIT', identifier: 'MIT' }
        },
        servers: [{
          url: rootServer,
          description: 'The registry that serves this document; by default http://localhost:8082'
        }],
        tags: [
          { name: 'extensions', description: 'Extensions, their versions and their files' },
          { name: 'system', description: 'Health, metrics and statistics of the service' }
        ],
        security: []
      },
      transformObject: input => 'openapiObject' in input ? share(input.openapiObject as Document) : input.swaggerObject,
      refResolver: {
        buildLocalReference: (json, _baseUri, _fragment, at) =>
          typeof json.$id === 'string' ? componentName(json.$id) : `def-${at}`
      }
    } as Parameters<typeof swagger>[1]
  )

  fastify.decorate(
    'openapiDocument',
    createOpenapiDocument(() => fastify.getDecorator<Swagger>(decorator), fastify.prefix)
  )

  const taken = [pagePath, `${pagePath}/`, `${pagePath}/json`, `${pagePath}/yaml`, `${pagePath}/static/*`].find(path =>
    fastify.hasRoute({ method: 'GET', url: `${fastify.prefix}${path}` })
  )
  if (taken === undefined) await fastify.register(openapiPage)
  else {
    fastify.log.warn(
      `route ${fastify.prefix}${taken} of the host exists: Swagger UI is not served; register the registry with a ` +
        'prefix'
    )
  }
}

export default fp(openapi, { name: 'registry-openapi', fastify: '5.x', dependencies: ['registry-schemas'] })
