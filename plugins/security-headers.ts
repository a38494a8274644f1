import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type SecurityHeadersOptions, createSecurityHeaders } from '../lib/common-headers.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** What stands on every answer, those that no hook runs for among them; plugins add theirs. */
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
