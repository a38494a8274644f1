import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { Type, type Static } from '@sinclair/typebox'
import type { FastifyReply } from 'fastify'
import { SourceQuery, VersionPath } from '../schemas/parameters.ts'
import {
  catalogErrors,
  downloadHeaders,
  errors,
  noBody,
  partHeaders,
  provenanceHeaders,
  redirectHeaders
} from '../schemas/responses.ts'

const schema = {
  tags: ['extensions'],
  params: VersionPath,
  querystring: SourceQuery
}
const content = {
  'application/octet-stream': { schema: Type.Unsafe<Uint8Array>({ type: 'string', format: 'binary' }) }
}
const notModified = noBody('The client has this file already', provenanceHeaders)
const found = noBody('`latest` was asked for: the exact version is at `Location`', redirectHeaders)

/** Files of versions; `latest` redirects to the current version. */
const download: FastifyPluginCallbackTypebox = (fastify, _options, done) => {
  const { catalog } = fastify
  const canonical = (version: string) => version.startsWith('v') ? version.slice(1) : version
  /** Handles GET and HEAD; the reply sends no body for HEAD. */
  const send = async (
    request: { params: Static<typeof VersionPath>, query: Static<typeof SourceQuery> },
    reply: FastifyReply
  ) => {
    const { params: { type, name, version }, query: { source } } = request
    if (version === 'latest') return reply.redirectToVersion(await catalog.find({ type, name, source }))
    const file = await catalog.file({ type, name, source, version: canonical(version) })
    return await reply.sendDownload(file, catalog.open)
  }

  fastify.get('/extensions/:type/:name/:version', {
    exposeHeadRoute: false,
    schema: {
      ...schema,
      operationId: 'downloadExtension',
      summary: 'Download extension',
      description:
        'The file of a version. Its end is only sent when all of it is what was published: a transfer that fails ' +
        'ends short of `Content-Length`, ' +
        'and is resumed with `Range` and `If-Range` or `If-Match`. `latest` redirects to the current version.',
      response: {
        200: { description: 'The file', headers: downloadHeaders, content },
        206: {
          description: 'The part that `Range` asks for; several ranges get the whole file',
          headers: partHeaders,
          content
        },
        302: found,
        304: notModified,
        ...catalogErrors,
        ...errors(409, 412, 416)
      }
    }
  }, send)

  fastify.head('/extensions/:type/:name/:version', {
    config: { swagger: { exposeHeadRoute: true } },
    schema: {
      ...schema,
      operationId: 'headExtension',
      summary: 'Headers of a download',
      description: 'What a download would say of the file, without fetching it.',
      response: {
        200: noBody('Headers of the file', downloadHeaders),
        302: found,
        304: notModified,
        ...catalogErrors,
        ...errors(409, 412)
      }
    }
  }, send)
  done()
}
export default download
