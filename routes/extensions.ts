import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { Extension, ExtensionVersion } from '../schemas/extension.ts'
import { ExtensionPath, ListQuery, SearchQuery, SourceQuery } from '../schemas/parameters.ts'
import { Ref } from '../schemas/ref.ts'
import {
  jsonResponse,
  bodyHeaders,
  catalogErrors,
  errors,
  listHeaders,
  noBody,
  pageHeaders
} from '../schemas/responses.ts'

const tags = ['extensions']
const notModified = ({ 'Content-Encoding': coding, ...headers }: typeof bodyHeaders) =>
  noBody('The client already has this response', headers)

/** Registers the routes of the catalog: list, search, metadata and versions. */
const extensions: FastifyPluginCallbackTypebox = (fastify, _options, done) => {
  const { catalog } = fastify

  fastify.get(
    '/extensions',
    {
      schema: {
        operationId: 'listExtensions',
        summary: 'List extensions',
        description:
          'Returns all extensions at their current versions, by type (provider, taskserv, cluster) and then by name.',
        tags,
        querystring: ListQuery,
        response: {
          200: jsonResponse('A page of the list', Type.Array(Ref(Extension)), listHeaders),
          304: notModified(listHeaders),
          ...errors(400, 401, 412, 429, 500, 503)
        }
      }
    },
    ({ query }, reply) =>
      reply.sendList(
        catalog.cachedList(query) ?? catalog.list(query),
        { query: { type: query.type, source: query.source }, limit: query.limit, offset: query.offset }
      )
  )

  fastify.get('/extensions/search', {
    schema: {
      operationId: 'searchExtensions',
      summary: 'Search extensions',
      description:
        'Returns extensions with `q` in the name, a tag or the description; letter case is ignored. The best matches ' +
        'come first: exact name, prefix of the name, start of a word in the name, elsewhere in the name, tag. ' +
        'Matches in the description come last, those at the start of a word before others.',
      tags,
      querystring: SearchQuery,
      response: {
        200: jsonResponse('The best matches', Type.Array(Ref(Extension)), pageHeaders),
        304: notModified(pageHeaders),
        ...errors(400, 401, 412, 429, 500, 503)
      }
    }
  }, ({ query }, reply) => reply.sendList(catalog.cachedSearch(query) ?? catalog.search(query)))

  fastify.get('/extensions/:type/:name', {
    schema: {
      operationId: 'getExtension',
      summary: 'Get extension metadata',
      description: 'Returns an extension at its current version, from the instance that owns it.',
      tags,
      params: ExtensionPath,
      querystring: SourceQuery,
      response: {
        200: jsonResponse('The extension', Ref(Extension), bodyHeaders),
        304: notModified(bodyHeaders),
        ...catalogErrors,
        ...errors(412)
      }
    }
  }, ({ params: { type, name }, query: { source } }, reply) =>
    reply.sendResource(catalog.cachedFind({ type, name, source }) ?? catalog.find({ type, name, source })))

  fastify.get(
    '/extensions/:type/:name/versions',
    {
      schema: {
        operationId: 'listExtensionVersions',
        summary: 'List extension versions',
        description: 'Returns all versions of an extension, highest first by semver precedence.',
        tags,
        params: ExtensionPath,
        querystring: SourceQuery,
        response: {
          200: jsonResponse('The versions', Type.Array(Ref(ExtensionVersion)), bodyHeaders),
          304: notModified(bodyHeaders),
          ...catalogErrors,
          ...errors(412)
        }
      }
    },
    ({ params: { type, name }, query: { source } }, reply) =>
      reply.sendResource(catalog.cachedVersions({ type, name, source }) ?? catalog.versions({ type, name, source }))
  )
  done()
}
export default extensions
