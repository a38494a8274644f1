import rateLimiter, { normalizeIP } from '@fastify/rate-limit'
import type { FastifyRequest } from 'fastify'
import type { RateLimitConfig } from '../schemas/config.ts'
import { clientAddress, withoutZone, type ClientRequest } from '../lib/client-address.ts'
import { privateServer } from './private-server.ts'

/** Clients that are counted at once; beyond that those are forgotten that asked longest ago. */
const mostClients = 10_000

/** Returns the key that a request is counted by: the client's address, or for IPv6 its network (/64), which belongs to one client. */
export const clientOf = (request: ClientRequest): string => normalizeIP(withoutZone(clientAddress(request)))

/** Counts a request; gives what is left for its client. */
export async function createClientRate ({ max, window_seconds: window }: RateLimitConfig) {
  const server = await privateServer(rateLimiter, { global: false, max, timeWindow: window * 1000, cache: mostClients, keyGenerator: clientOf })
  await server.ready()
  const count = server.createRateLimit()
  return async (request: FastifyRequest): Promise<{ exceeded: boolean, remaining: number, reset: number }> => {
    const counted = await count(request)
    if (counted.isAllowed) return { exceeded: false, remaining: max, reset: window }
    return { exceeded: counted.isExceeded, remaining: counted.remaining, reset: counted.ttlInSeconds }
  }
}
export type ClientRate = Awaited<ReturnType<typeof createClientRate>>
