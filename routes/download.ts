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
const notModified = noBody('The client already has this file', provenanceHeaders)
const found = noBody('Redirect from `latest` to the exact version in `Location`', redirectHeaders)

/** Registers the routes of files; `latest` redirects to the current version. */
const download: FastifyPluginCallbackTypebox = (fastify, _options, done) => {
  const { catalog } = fastify
  const canonical = (version: string) => version.startsWith('v') ? version.slice(1) : version
  /** Sends the response to GET and HEAD; that to HEAD has no body. */
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
        'Returns the file of a version. The end of the file is sent only after the whole file is verified. A failed ' +
        'transfer ends before `Content-Length` is reached; resume it with `Range` and `If-Range` or `If-Match`. ' +
        '`latest` redirects to the current version.',
      response: {
        200: { description: 'The file', headers: downloadHeaders, content },
        206: {
          description: 'The part in `Range`; several ranges get the whole file',
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
      description: 'Returns the headers of a download without a transfer.',
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
