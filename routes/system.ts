import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { registryError } from '../lib/errors.ts'
import { CacheStats } from '../schemas/cache-stats.ts'
import { HealthResponse, ProbeResponse } from '../schemas/health.ts'
import { Ref } from '../schemas/ref.ts'
import { jsonResponse, errors, systemHeaders } from '../schemas/responses.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route is asked by machines all day long: its requests are logged at debug. */
    probe?: boolean
  }
}

const tags = ['system']
const config = { probe: true }

/** Health and metrics, at the root and below `/api/v1`; the two have operation ids of their own. */
const healthAndMetrics = (suffix: string): FastifyPluginCallbackTypebox => (fastify, _options, done) => {
  const { health, telemetry } = fastify

  fastify.get('/health', {
    config,
    schema: {
      operationId: `getHealth${suffix}`,
      summary: 'Health check',
      description:
        'Service health and backend status, from the last background probe: it answers at once, and with 200 when ' +
          'degraded too.',
      tags,
      response: { 200: jsonResponse('Healthy or degraded', Ref(HealthResponse)), ...errors(400, 500) }
    }
  }, async (_request, reply) => reply.header('cache-control', 'no-store').send(health.report()))

  fastify.get(
    '/metrics',
    {
      config: { ...config, disableMetrics: true },
      schema: {
        operationId: `getMetrics${suffix}`,
        summary: 'Metrics',
        description: 'Metrics in the Prometheus text format.',
        tags,
        response: {
          200: { description: 'Metrics', headers: systemHeaders, content: { 'text/plain': { schema: Type.String() } } },
          ...errors(400, 500)
        }
      }
    },
    async (_request, reply) =>
      reply.header('cache-control', 'no-store').type(telemetry.register.contentType).send(
        await telemetry.register.metrics()
      )
  )
  done()
}

/** System routes below `/api/v1`. */
export const apiSystem: FastifyPluginCallbackTypebox = (fastify, _options, done) => {
  const { cache, downloads } = fastify
  void fastify.register(healthAndMetrics(''))

  fastify.get('/cache/stats', {
    schema: {
      operationId: 'getCacheStats',
      summary: 'Cache statistics',
      description: 'How many entries the cache holds now.',
      tags,
      response: { 200: jsonResponse('Entries by section', Ref(CacheStats)), ...errors(400, 500) }
    }
  }, async (_request, reply) => {
    const { list, metadata, versions } = cache.statistics()
    const store = downloads.statistics()
    return await reply.header('cache-control', 'no-store').send({
      list_entries: list.entries,
      metadata_entries: metadata.entries,
      version_entries: versions.entries,
      total_entries: list.entries + metadata.entries + versions.entries,
      store_entries: store.entries,
      store_bytes: store.bytes
    })
  })
  done()
}

/** System routes at the root: probes, and the OpenAPI document. */
export const rootSystem: FastifyPluginCallbackTypebox = (fastify, _options, done) => {
  const { health, openapiDocument } = fastify
  void fastify.register(healthAndMetrics('AtRoot'))

  fastify.get('/livez', {
    config,
    schema: {
      operationId: 'getLiveness',
      summary: 'Liveness probe',
      description: 'The process runs.',
      tags,
      response: { 200: jsonResponse('Alive', Ref(ProbeResponse)), ...errors(400, 500) }
    }
  }, async (_request, reply) => reply.header('cache-control', 'no-store').send({ status: 'ok' }))

  fastify.get('/readyz', {
    config,
    schema: {
      operationId: 'getReadiness',
      summary: 'Readiness probe',
      description: 'The service can answer: it has a cached catalog or a healthy instance, and is not shutting down.',
      tags,
      response: { 200: jsonResponse('Ready', Ref(ProbeResponse)), ...errors(400, 500, 503) }
    }
  }, async (_request, reply) => {
    if (!health.ready()) throw registryError('service_unavailable', 'Not ready')
    return await reply.header('cache-control', 'no-store').send({ status: 'ok' })
  })

  fastify.get(
    '/openapi.json',
    { schema: { hide: true } },
    async (_request, reply) => reply.header('cache-control', 'no-store').send(openapiDocument.json('/openapi.json'))
  )
  fastify.get(
    '/openapi.yaml',
    { schema: { hide: true } },
    async (_request, reply) =>
      reply.header('cache-control', 'no-store').type('application/yaml').send(openapiDocument.yaml('/openapi.yaml'))
  )
  done()
}
