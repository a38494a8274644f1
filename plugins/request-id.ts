import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/** Tells each client the id under which its request stands in the log. */
async function requestId (fastify: FastifyInstance): Promise<void> {
  fastify.addHook('onRequest', async (request, reply) => {
    reply.headers({ 'x-request-id': request.id, 'x-content-type-options': 'nosniff' })
  })
}

export default fp(requestId, { name: 'registry-request-id', fastify: '5.x' })
