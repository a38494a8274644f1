import client from '@prometheus-io/client'
import type { FastifyInstance, onResponseHookHandler } from 'fastify'
import fastifyMetrics from 'fastify-metrics'
import fp from 'fastify-plugin'
import { cacheSections } from '../cache/cache.ts'
import { createTelemetry, type Telemetry } from './registry.ts'
import { createRequestMetrics } from './requests.ts'

declare module 'fastify' {
  interface FastifyInstance { telemetry: Telemetry }
}

async function telemetry (fastify: FastifyInstance): Promise<void> {
  // Each registry has its own register, so that one process can have several registries.
  const register = new client.Registry()
  const requests = createRequestMetrics(register)
  const telemetry = createTelemetry(register)
  fastify.decorate('telemetry', telemetry)

  await fastify.register(fastifyMetrics.default, {
    name: 'httpMetrics',
    promClient: client,
    endpoint: null,
    defaultMetrics: { enabled: true, register },
    routeMetrics: { enabled: false }
  })
  fastify.addHook('onRoute', route => {
    const observers = new Map(
      [route.method].flat().map(
        method => [method, requests.route(method, route.url, route.config?.disableMetrics !== true)]
      )
    )
    const observe: onResponseHookHandler = (request, reply, done) => {
      observers.get(request.method)?.(reply.statusCode, reply.elapsedTime)
      done()
    }
    route.onResponse = [...[route.onResponse ?? []].flat(), observe]
  })
  fastify.addHook('onResponse', (request, reply, done) => {
    if (request.is404) requests.unrouted(request.method)(reply.statusCode, reply.elapsedTime)
    done()
  })

  const perSection = (count: (section: typeof cacheSections[number]) => number) => () =>
    cacheSections.map(section => ({ labels: { section }, value: count(section) }))
  const statistics = () => fastify.cache.statistics()
  telemetry.counter(
    'cache_hits_total',
    'Total cache hits',
    ['section'],
    perSection(section => statistics()[section].hits)
  )
  telemetry.counter(
    'cache_misses_total',
    'Total cache misses',
    ['section'],
    perSection(section => statistics()[section].misses)
  )
  telemetry.counter(
    'cache_coalesced_total',
    'Misses that shared a load in progress',
    ['section'],
    perSection(section => statistics()[section].coalesced)
  )
  telemetry.counter(
    'cache_evictions_total',
    'Entries that were removed for others',
    ['section'],
    perSection(section => statistics()[section].evictions)
  )
  telemetry.gauge(
    'cache_entries',
    'Entries in the cache',
    ['section'],
    perSection(section => statistics()[section].entries)
  )
}

export default fp(telemetry, {
  name: 'registry-telemetry',
  fastify: '5.x',
  dependencies: ['registry-cache'],
  decorators: { fastify: ['cache'] }
})
