import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { registryError, errorHandler } from '../lib/errors.ts'

/** Returns a path for a message: without its query, and with a maximum of 200 characters. */
function shownPath (url: string): string {
  const path = url.split('?', 1)[0] ?? ''
  return path.length > 200 ? `${path.slice(0, 200)}…` : path
}

/** Responds to a request without a route: 405 when the path has other methods (RFC 9110, section 15.5.6), else 404. */
export function notFoundHandler (request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { method, url, server } = request
  const allow = server.hasDecorator('methods') ? server.methods.allowed(url) : []
  // A route calls this handler as well when it finds nothing under its own method, such as a route for static files.
  const error = allow.length === 0 || allow.includes(method)
    ? registryError('not_found', `Route ${method} ${shownPath(url)} not found`)
    : registryError(
      'method_not_allowed',
      `Method ${method} is not allowed for ${shownPath(url)}: use ${allow.join(' or ')}`,
      { allow }
    )
  return errorHandler(error, request, reply)
}

/**
 * Handles the requests without a route, in a scope with a prefix or in a whole server. It responds before the body is
 * read, because an unparsable body would change the response. It must be registered after all hooks of the scope,
 * because only earlier hooks apply.
 */
export async function unknownRoutes (fastify: FastifyInstance): Promise<void> {
  fastify.addHook('onRequest', (request, reply) => { notFoundHandler(request, reply) })
  fastify.setNotFoundHandler(notFoundHandler)
}

/** Sets the error handler, which sends the error envelope, for every route of the scope. */
async function errors (fastify: FastifyInstance): Promise<void> {
  fastify.setErrorHandler(errorHandler)
}

export default fp(errors, { name: 'registry-errors', fastify: '5.x' })
