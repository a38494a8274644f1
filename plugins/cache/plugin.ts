import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type CacheOptions, createCache, type Cache } from './cache.ts'

declare module 'fastify' {
  interface FastifyInstance { cache: Cache }
}

export async function cache (fastify: FastifyInstance, options: CacheOptions): Promise<void> {
  fastify.decorate('cache', createCache(options))
}

export default fp(cache, { name: 'registry-cache', fastify: '5.x' })
