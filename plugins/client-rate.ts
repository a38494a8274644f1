import { isIP } from 'node:net'
import rateLimiter, { normalizeIP } from '@fastify/rate-limit'
import type { FastifyRequest } from 'fastify'
import type { RateLimitConfig } from '../schemas/config.ts'
import { privateServer } from './private-server.ts'

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
