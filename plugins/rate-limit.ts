import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { RateLimitConfig } from '../schemas/config.ts'
import { registryError } from '../lib/errors.ts'

export type RateLimitOptions = RateLimitConfig

/** Limits how often one client may ask the routes of the scope, and tells each how it stands (draft-ietf-httpapi-ratelimit-headers). */
async function rateLimit (fastify: FastifyInstance, options: RateLimitOptions): Promise<void> {
  const { max, window_seconds: window } = options
  if (max === 0) return
  // Most have no limit, and need not load what counts.
  const { createClientRate } = await import('./client-rate.ts')
  const count = await createClientRate(options)
  const policy = `"default";q=${max};w=${window}`
  fastify.addHook('onRequest', async (request, reply) => {
    const { exceeded, remaining, reset } = await count(request)
    reply.headers({ 'ratelimit-policy': policy, ratelimit: `"default";r=${remaining};t=${reset}` })
    if (!exceeded) return
    fastify.telemetry.observeShed('rate_limit')
    throw registryError('rate_limit', `Too many requests: at most ${max} in ${window} seconds`, { retryAfter: reset })
  })
}

export default fp(rateLimit, { name: 'registry-rate-limit', fastify: '5.x', dependencies: ['registry-telemetry'], decorators: { fastify: ['telemetry'] } })
