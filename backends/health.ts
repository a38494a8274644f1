import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { isRegistryError } from '../lib/errors.ts'
import { extensionTypes, type ExtensionSource } from '../schemas/extension.ts'
import type { BackendHealth, BackendStatus, HealthResponse, InstanceStatus } from '../schemas/health.ts'
import type { Backend } from './cached/backend.ts'
import { circuits } from './cached/breaker.ts'

export interface HealthOptions {
  /** Version of the service, for the report. */
  version?: string
  /** Milliseconds from the beginning of a probe to the beginning of the next one. */
  probeInterval?: number
  /**
   * Milliseconds that a probe may take. Both together are the longest that an outage goes unseen: less than 20 seconds.
   */
  probeTimeout?: number
}

/** A person's words for a failure, without addresses. */
function words (error: unknown): string {
  if (!isRegistryError(error)) return 'Probe failed'
  return error.details ?? error.message
}

/**
 * Knows how every instance does, by asking each in the background: whoever wants to know never waits. An instance is
 * healthy when it answered the last probe and its last walk succeeded.
 */
export function createHealth (
  instances: readonly Backend[],
  log: FastifyBaseLogger,
  { version = '', probeInterval = 15_000, probeTimeout = 4_000 }: HealthOptions = {}
) {
  const started = performance.now()
  const probed = new Map<Backend, string | undefined>(instances.map(instance => [instance, 'Not checked yet']))
  const closed = new AbortController()
  const timers = new Map<Backend, NodeJS.Timeout>()
  let draining = false

  function statusOf (instance: Backend): InstanceStatus {
    const error = probed.get(instance) ?? (instance.failure === undefined ? undefined : words(instance.failure))
    const { circuit } = instance
    return {
      enabled: true,
      healthy: error === undefined,
      ...(error !== undefined && { error }),
      ...(circuit !== 'closed' && { circuit })
    }
  }

  async function probe (instance: Backend): Promise<void> {
    const before = probed.get(instance)
    const late = AbortSignal.timeout(probeTimeout)
    const signal = AbortSignal.any([late, closed.signal])
    const gaveUp = new Promise<never>((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        reject(signal.reason)
      }, { once: true })
    })
    try {
      await Promise.race([instance.ping(signal), gaveUp])
      probed.set(instance, undefined)
      if (before !== undefined) log.info({ backend: instance.name }, 'backend is healthy')
      // What clients would wait for is walked while nobody waits, asked for or not: what is gone upstream is gone here
      // in time.
      instance.refresh({ recovered: before !== undefined })
    } catch (error) {
      if (closed.signal.aborted) return
      const why = late.aborted ? 'Connection timeout' : words(error)
      probed.set(instance, why)
      if (before !== why) log.warn({ backend: instance.name, err: error }, `backend is not healthy: ${why}`)
    }
  }

  /** Probes one instance again and again; none waits for another. Resolves after the first probe. */
  async function watch (instance: Backend): Promise<void> {
    const began = performance.now()
    await probe(instance)
    if (closed.signal.aborted) return
    const left = probeInterval - (performance.now() - began)
    timers.set(instance, setTimeout(() => { void watch(instance) }, Math.max(0, left)).unref())
  }

  function statusOfKind (source: ExtensionSource): BackendStatus {
    const those = instances.filter(instance => instance.source === source).map(instance => ({
      name: instance.name,
      status: statusOf(instance)
    }))
    const failing = those.filter(({ status }) => !status.healthy)
    const error = those.length === 1
      ? failing[0]?.status.error
      : failing.map(({ name, status }) => `${name}: ${status.error ?? ''}`).join('; ')
    return {
      enabled: those.length > 0,
      healthy: those.length > 0 && failing.length === 0,
      ...(failing.length > 0 && error !== undefined && { error }),
      ...(those.length === 1 && those[0]?.status.circuit !== undefined && { circuit: those[0].status.circuit }),
      ...(those.length > 1 && { instances: Object.fromEntries(those.map(({ name, status }) => [name, status])) })
    }
  }

  const backends = (): BackendHealth => ({ gitea: statusOfKind('gitea'), oci: statusOfKind('oci') })
  const healthy = (): boolean => instances.every(instance => statusOf(instance).healthy)

  return {
    /** Starts probing; resolves after the first probe of each. */
    start: async (): Promise<void> => { await Promise.all(instances.map(watch)) },
    stop (): void {
      closed.abort()
      for (const timer of timers.values()) clearTimeout(timer)
    },
    /** From now on the service is not ready: it is about to end. */
    drain (): void { draining = true },
    backends,
    /** Whether every enabled kind is healthy. */
    healthy,
    /** Returns the body of the health routes, from the last probes. */
    report: (): HealthResponse => ({
      status: healthy() ? 'healthy' : 'degraded',
      version,
      uptime: Math.floor((performance.now() - started) / 1000),
      backends: backends()
    }),
    /** Whether anything can be served: an instance that answers, or a listing of one that did. */
    ready: (): boolean =>
      !draining &&
      instances.some(instance =>
        statusOf(instance).healthy || extensionTypes.some(type => instance.peek(type) !== undefined)
      ),
    instances: (): Array<{ name: string, healthy: boolean }> =>
      instances.map(instance => ({ name: instance.name, healthy: statusOf(instance).healthy }))
  }
}
export type Health = ReturnType<typeof createHealth> & {
  /** Resolves after the first round of probes. */
  firstRound: Promise<void>
}

declare module 'fastify' {
  interface FastifyInstance { health: Health }
}

async function health (fastify: FastifyInstance, options: HealthOptions): Promise<void> {
  const { instances, census } = fastify.catalog
  const probes = createHealth(instances, fastify.log, options)
  let began = (): void => {}
  const firstRound = new Promise<void>(resolve => { began = resolve })
  fastify.decorate('health', Object.assign(probes, { firstRound }))

  fastify.addHook('onReady', async () => {
    void probes.start().then(began)
    // What the first client would wait for is loaded while nobody waits; a failure is seen by the probes.
    for (const instance of instances) instance.refresh()
  })
  fastify.addHook('preClose', async () => { probes.drain() })
  fastify.addHook('onClose', async () => { probes.stop() })

  fastify.telemetry.gauge(
    'backend_healthy',
    'Whether the backend is healthy (1) or not (0)',
    ['backend'],
    () => probes.instances().map(({ name, healthy }) => ({ labels: { backend: name }, value: healthy ? 1 : 0 }))
  )
  fastify.telemetry.gauge(
    'backend_circuit',
    'State of the circuit breaker: 1 for the state that it is in',
    ['backend', 'state'],
    () =>
      instances.flatMap(({ name, circuit }) =>
        circuits.map(state => ({ labels: { backend: name, state }, value: circuit === state ? 1 : 0 }))
      )
  )
  fastify.telemetry.gauge('extensions_total', 'Total extensions', ['type', 'source'], () => {
    const { extensions } = census()
    return extensionTypes.flatMap(type => (['gitea', 'oci'] as const).map(source => ({
      labels: { type, source },
      value: extensions.filter(extension => extension.type === type && extension.source === source).length
    })))
  })
  fastify.telemetry.gauge(
    'extensions_shadowed_total',
    "Extensions that an earlier instance owns, by the instance whose twin isn't shown",
    ['backend'],
    () => {
      const { shadowed } = census()
      return instances.map(({ name }) => ({ labels: { backend: name }, value: shadowed.get(name) ?? 0 }))
    }
  )
}

export default fp(health, {
  name: 'registry-health',
  fastify: '5.x',
  dependencies: ['registry-catalog', 'registry-telemetry'],
  decorators: { fastify: ['catalog', 'telemetry'] }
})
