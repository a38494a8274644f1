import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/** Sends the id of each request, which its log lines contain, in `X-Request-Id`. */
async function requestId (fastify: FastifyInstance): Promise<void> {
  fastify.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    done()
  })
}

export default fp(requestId, { name: 'registry-request-id', fastify: '5.x' })
