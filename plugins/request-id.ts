import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/** Tells each client the id under which its request stands in the log. */
function requestId (fastify: FastifyInstance, _options: object, done: () => void): void {
  fastify.addHook('onRequest', async (request, reply) => {
    reply.headers({ 'x-request-id': request.id, 'x-content-type-options': 'nosniff' })
  })
  done()
}

export default fp(requestId, { name: 'registry-request-id', fastify: '5.x' })
