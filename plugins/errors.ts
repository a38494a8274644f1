import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { registryError, errorHandler } from '../lib/errors.ts'

/** A path as it may stand in a message: without its query, and not longer than 200 characters. */
function shownPath (url: string): string {
  const path = url.split('?', 1)[0] ?? ''
  return path.length > 200 ? `${path.slice(0, 200)}…` : path
}

/**
 * Responds to a request that has no route: 405 where the path has other methods (RFC 9110, section 15.5.6), else 404.
 */
export function notFoundHandler (request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { method, url, server } = request
  const allow = server.hasDecorator('methods') ? server.methods.allowed(url) : []
  // A route that finds nothing under its own method, such as that of static files, comes here as well.
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
 * Handles the requests without a route of a scope with a prefix, or of a whole server. Responds before a body is read:
 * no body changes the response, and a body that cannot be parsed would. Has to be registered after every hook of the
 * scope, because a scope has those hooks only that were there before it.
 */
export async function unknownRoutes (fastify: FastifyInstance): Promise<void> {
  fastify.addHook('onRequest', (request, reply) => { notFoundHandler(request, reply) })
  fastify.setNotFoundHandler(notFoundHandler)
}

/** The error envelope for every route of the scope that it is registered in. */
async function errors (fastify: FastifyInstance): Promise<void> {
  fastify.setErrorHandler(errorHandler)
}

export default fp(errors, { name: 'registry-errors', fastify: '5.x' })
