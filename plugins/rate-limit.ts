import { isIP } from 'node:net'
import rateLimiter, { normalizeIP } from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { RateLimitConfig } from '../schemas/config.ts'
import { registryError } from './errors.ts'
import { privateServer } from './private-server.ts'

export type RateLimitOptions = RateLimitConfig

/** Clients that are counted at once; beyond that those are forgotten that asked longest ago. */
const mostClients = 10_000

/**
 * Whom a request is counted for: the client's address, of IPv6 the network (/64) that one client has to itself. Behind a
 * trusted proxy it is what the proxy says; where that is no address, it is the proxy.
 */
export function clientOf ({ ip, socket }: Pick<FastifyRequest, 'ip'> & { socket: Pick<FastifyRequest['socket'], 'remoteAddress'> }): string {
  const address = [ip, socket.remoteAddress].find(candidate => candidate !== undefined && isIP(candidate) !== 0)
  return address === undefined ? '' : normalizeIP(address.replace(/%.*$/, ''))
}

/** Counts a request; gives what is left for its client. */
export async function createRateLimit ({ max, window_seconds: window }: RateLimitOptions) {
  const server = await privateServer(rateLimiter, { global: false, max, timeWindow: window * 1000, cache: mostClients, keyGenerator: clientOf })
  await server.ready()
  const count = server.createRateLimit()
  return async (request: FastifyRequest): Promise<{ exceeded: boolean, remaining: number, reset: number }> => {
    const counted = await count(request)
    if (counted.isAllowed) return { exceeded: false, remaining: max, reset: window }
    return { exceeded: counted.isExceeded, remaining: counted.remaining, reset: counted.ttlInSeconds }
  }
}
export type RateLimit = Awaited<ReturnType<typeof createRateLimit>>

/** Limits how often one client may ask the routes of the scope, and tells each how it stands (draft-ietf-httpapi-ratelimit-headers). */
async function rateLimit (fastify: FastifyInstance, options: RateLimitOptions): Promise<void> {
  const { max, window_seconds: window } = options
  if (max === 0) return
  const count = await createRateLimit(options)
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
