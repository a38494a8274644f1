import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/** Tells each client the id under which its request stands in the log. */
async function requestId (fastify: FastifyInstance): Promise<void> {
  fastify.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    done()
  })
}

export default fp(requestId, { name: 'registry-request-id', fastify: '5.x' })
