import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { clientAddress, withoutZone, type ClientRequest } from '../lib/server-options.ts'
import { registryError } from '../lib/errors.ts'
import type { RateLimitConfig } from '../schemas/config.ts'

export type RateLimitOptions = RateLimitConfig

/** Maximum number of clients in the counter; beyond it, the client whose last request is oldest is removed. */
const maxClients = 10_000

/**
 * Rate of one client: whether it has exceeded the limit, its remaining requests, and the seconds until the limit is
 * reset.
 */
export interface ClientRate { exceeded: boolean, remaining: number, reset: number }

/**
 * Returns the key under which a request is counted: the address of the client, or for IPv6 its network (/64).
 * `normalize` is `normalizeIP` of @fastify/rate-limit.
 */
export const clientKey = (request: ClientRequest, normalize: (address: string) => string): string =>
  normalize(withoutZone(clientAddress(request)))

/**
 * Creates a function that counts a request for its client. The plugin that counts is registered on a server that never
 * listens. In the registry's own scope, its decorators would conflict with the same plugin of a host
 * (docs/decisions/012-rate-limit-scope.md).
 */
async function createCounter (
  { max, window_seconds: window }: RateLimitConfig
): Promise<(request: FastifyRequest) => Promise<ClientRate>> {
  const { default: rateLimiter, normalizeIP } = await import('@fastify/rate-limit')
  const keyGenerator = (request: FastifyRequest) => clientKey(request, normalizeIP)
  const server = Fastify()
  await server.register(rateLimiter, { global: false, max, timeWindow: window * 1000, cache: maxClients, keyGenerator })
  await server.ready()
  const count = server.createRateLimit()
  return async request => {
    const counted = await count(request)
    if (counted.isAllowed) return { exceeded: false, remaining: max, reset: window }
    return { exceeded: counted.isExceeded, remaining: counted.remaining, reset: counted.ttlInSeconds }
  }
}

/**
 * Limits the requests of each client to the routes of the scope, and reports the state in headers
 * (draft-ietf-httpapi-ratelimit-headers).
 */
async function rateLimit (fastify: FastifyInstance, options: RateLimitOptions): Promise<void> {
  const { max, window_seconds: window } = options
  if (max === 0) return
  const count = await createCounter(options)
  const policy = `"default";q=${max};w=${window}`
  fastify.addHook('onRequest', async (request, reply) => {
    const { exceeded, remaining, reset } = await count(request)
    reply.headers({ 'ratelimit-policy': policy, ratelimit: `"default";r=${remaining};t=${reset}` })
    if (!exceeded) return
    fastify.telemetry.observeShed('rate_limit')
    throw registryError('rate_limit', `Too many requests: at most ${max} in ${window} seconds`, { retryAfter: reset })
  })
}

export default fp(rateLimit, {
  name: 'registry-rate-limit',
  fastify: '5.x',
  dependencies: ['registry-telemetry'],
  decorators: { fastify: ['telemetry'] }
})
