import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { registryError } from '../lib/errors.ts'
import { CacheStats } from '../schemas/cache-stats.ts'
import { HealthResponse, ProbeResponse } from '../schemas/health.ts'
import { Ref } from '../schemas/ref.ts'
import { jsonResponse, errors, systemHeaders } from '../schemas/responses.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Whether requests of the route are logged at level debug, because probes send them all the time. */
    probe?: boolean
  }
}

const tags = ['system']
const config = { probe: true }

/** Returns a plugin with the routes of health and metrics. `suffix` makes the operation ids unique. */
const healthAndMetrics = (suffix: string): FastifyPluginCallbackTypebox => (fastify, _options, done) => {
  const { health, telemetry } = fastify

  fastify.get('/health', {
    config,
    schema: {
      operationId: `getHealth${suffix}`,
      summary: 'Health check',
      description:
        'Returns the health of the service and its backends, from the last background probe. The response never ' +
          'waits for a backend, and has status 200 even if the service is degraded.',
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
        description: 'Returns metrics in the Prometheus text format.',
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

/** Registers the system routes below `/api/v1`. */
export const apiSystem: FastifyPluginCallbackTypebox = (fastify, _options, done) => {
  const { cache, downloads } = fastify
  void fastify.register(healthAndMetrics(''))

  fastify.get('/cache/stats', {
    schema: {
      operationId: 'getCacheStats',
      summary: 'Cache statistics',
      description: 'Returns the number of entries in the cache.',
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

/** Registers the system routes at the root: probes, and the OpenAPI document. */
export const rootSystem: FastifyPluginCallbackTypebox = (fastify, _options, done) => {
  const { health, openapiDocument } = fastify
  void fastify.register(healthAndMetrics('AtRoot'))

  fastify.get('/livez', {
    config,
    schema: {
      operationId: 'getLiveness',
      summary: 'Liveness probe',
      description: 'Succeeds while the process runs.',
      tags,
      response: { 200: jsonResponse('Alive', Ref(ProbeResponse)), ...errors(400, 500) }
    }
  }, async (_request, reply) => reply.header('cache-control', 'no-store').send({ status: 'ok' }))

  fastify.get('/readyz', {
    config,
    schema: {
      operationId: 'getReadiness',
      summary: 'Readiness probe',
      description:
        'Succeeds while an instance is healthy or a catalog is cached, and the service is not shutting down.',
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
