import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type SecurityHeadersOptions, createSecurityHeaders } from '../lib/common-headers.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Headers of every response, including responses for which no hook runs; other plugins add their own. */
    commonHeaders: Record<string, string>
  }
}

/** Sets the security headers of every response of the scope. */
async function securityHeaders (fastify: FastifyInstance, options: SecurityHeadersOptions): Promise<void> {
  const headers = createSecurityHeaders(options)
  fastify.decorate('commonHeaders', headers)
  fastify.addHook('onRequest', (_request, reply, done) => {
    reply.headers(headers)
    done()
  })
}

export default fp(securityHeaders, { name: 'registry-security-headers', fastify: '5.x' })
