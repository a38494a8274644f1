import { isDeepStrictEqual } from 'node:util'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { componentName } from './validation.ts'

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
interface ResponseObject { headers?: Parts }
interface Operation { operationId: string, responses: Record<string, ResponseObject> }

/** Returns a reference to the part of this name in `shared`, where the first is put; the part itself if it differs. */
function hoist (shared: Parts, kind: string, name: string, part: object): object {
  shared[name] ??= part
  return isDeepStrictEqual(shared[name], part) ? { $ref: `#/components/${kind}/${name}` } : part
}

/** Returns the document with headers and error responses of several operations as components, each written once. */
function share (document: Document): Document {
  // A copy by JSON has no object twice, so YAML has no anchors; it is also free to be changed.
  const copy = JSON.parse(JSON.stringify(document)) as Document
  const headers: Parts = {}
  const responses: Parts = {}
  const operations = Object.values(copy.paths ?? {}).flatMap(path => Object.values(path as Record<string, Operation>))
  // Headers first: responses refer to them.
  for (const operation of operations) {
    for (const { headers: own = {} } of Object.values(operation.responses)) {
      for (const [name, header] of Object.entries(own)) own[name] = hoist(headers, 'headers', name, header)
    }
  }
  for (const operation of operations) {
    // @fastify/swagger appends a suffix to ids of HEAD, not valid in names of functions; ours are unique without it.
    operation.operationId = operation.operationId.replace(/-head$/, '')
    for (const [status, response] of Object.entries(operation.responses)) {
      if (Number(status) >= 400) operation.responses[status] = hoist(responses, 'responses', `Error${status}`, response)
    }
  }
  return { ...copy, components: { ...copy.components, headers, responses } } as Document
}

/**
 * The OpenAPI document. `address` is the path below the registry's prefix at which it is served, such as
 * `/openapi.json`: its server is then relative to that address, so that it holds below the prefix of any proxy. Without
 * it the server is `/`.
 */
export interface OpenapiDocument {
  json: (address?: string) => object
  yaml: (address?: string) => string
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The OpenAPI document of this registry's own routes: an object, or YAML. */
    openapiDocument: OpenapiDocument
  }
}

type Swagger = FastifyInstance['swagger']

/** The server of the document, to whose URL the paths are appended. */
const rootServer = '/'
const serverLine = (url: string): string => `\nservers:\n  - url: ${url}\n`

/**
 * Returns the URL reference that leads from a document to the root of its paths, which include the registry's prefix. A
 * client resolves it against the document's own address (OpenAPI 3.1, section 4.6).
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
 * Redirects addresses of the page that do not work as Swagger UI serves them: with a query its script requests the
 * document at a wrong address, and its own redirect of `index.html` loses the prefix of a proxy. These redirects are
 * relative.
 */
const redirectPage: onRequestHookHandler = (request, reply, done) => {
  const [path = '', query] = request.url.split('?', 2)
  if (/\/static\/(?:index\.html)?$/.test(path)) reply.redirect('../')
  else if (query === undefined || !/\/docs\/?$/.test(path)) done()
  else reply.redirect(path.endsWith('/') ? './' : `.${pagePath}`)
}

/**
 * Serves Swagger UI, in a scope in which `swagger` is the registry's document, also where the host has one of its own.
 */
async function openapiPage (scope: FastifyInstance): Promise<void> {
  const { openapiDocument } = scope
  scope.decorate('swagger', ((options?: { yaml?: boolean }) => options?.yaml === true
    ? openapiDocument.yaml(`${pagePath}/yaml`)
    : openapiDocument.json(`${pagePath}/json`)) as Swagger)
  scope.addHook('onRequest', redirectPage)
  await scope.register(swaggerUi, {
    routePrefix: pagePath,
    // The page at `/docs` refers to its assets by this; the page at `/docs/` has relative references in any case.
    indexPrefix: '.',
    staticCSP: contentSecurityPolicy,
    uiConfig: { deepLinking: true, tryItOutEnabled: true, displayRequestDuration: true, validatorUrl: null },
    theme: { title: 'Extension registry' }
  })
}

async function openapi (fastify: FastifyInstance): Promise<void> {
  // A name of its own: the host may have a document, too.
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
          { name: 'extensions', description: 'What exists, which versions, and the files' },
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
