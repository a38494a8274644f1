import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { untilAborted } from '../lib/deadline.ts'
import { isRegistryError } from '../lib/errors.ts'
import { extensionTypes, type ExtensionSource } from '../schemas/extension.ts'
import type { BackendHealth, BackendStatus, HealthResponse, InstanceStatus } from '../schemas/health.ts'
import type { Backend } from './cached/backend.ts'
import { circuits } from './cached/breaker.ts'

export interface HealthOptions {
  /** Version of the service, for the report. */
  version?: string
  /** Milliseconds from the start of a probe to the start of the next one. */
  probeInterval?: number
  /** Maximum milliseconds of a probe. An outage is noticed within the sum of both, which is less than 20 seconds. */
  probeTimeout?: number
}

/** Returns the reason of a failure in words, without addresses. */
function reasonOf (error: unknown): string {
  if (!isRegistryError(error)) return 'Probe failed'
  return error.details ?? error.message
}

/**
 * Creates the probes of every instance, each at its own interval. A probe that succeeds also refreshes the instance, so
 * that extensions deleted upstream are removed within the TTL, even without traffic.
 */
function createProbes (
  instances: readonly Backend[],
  log: FastifyBaseLogger,
  { probeInterval = 15_000, probeTimeout = 4_000 }: HealthOptions
) {
  const problems = new Map<Backend, string | undefined>(instances.map(instance => [instance, 'Not checked yet']))
  const closing = new AbortController()
  const timers = new Map<Backend, NodeJS.Timeout>()

  async function probe (instance: Backend): Promise<void> {
    const before = problems.get(instance)
    const timeout = AbortSignal.timeout(probeTimeout)
    const signal = AbortSignal.any([timeout, closing.signal])
    try {
      await untilAborted(instance.ping(signal), signal)
      problems.set(instance, undefined)
      if (before !== undefined) log.info({ backend: instance.name }, 'backend is healthy')
      instance.refresh({ recovered: before !== undefined })
    } catch (error) {
      if (closing.signal.aborted) return
      const problem = timeout.aborted ? 'Connection timeout' : reasonOf(error)
      problems.set(instance, problem)
      if (before !== problem) log.warn({ backend: instance.name, err: error }, `backend is not healthy: ${problem}`)
    }
  }

  /** Probes one instance until the server closes, independently of others. Resolves after the first probe. */
  async function watch (instance: Backend): Promise<void> {
    const began = performance.now()
    await probe(instance)
    if (closing.signal.aborted) return
    const left = probeInterval - (performance.now() - began)
    timers.set(instance, setTimeout(() => { void watch(instance) }, Math.max(0, left)).unref())
  }

  function stop (): void {
    closing.abort()
    for (const timer of timers.values()) clearTimeout(timer)
  }

  return {
    /** Returns why the last probe of an instance failed; undefined when it succeeded. */
    problemOf: (instance: Backend): string | undefined => problems.get(instance),
    start: async (): Promise<void> => { await Promise.all(instances.map(watch)) },
    stop
  }
}

type NamedStatus = { name: string, status: InstanceStatus }

/** Combines the instances of one kind. The circuit is shown where there is only one. */
function combine (statuses: readonly NamedStatus[]): BackendStatus {
  const failing = statuses.filter(({ status }) => !status.healthy)
  const error = statuses.length === 1
    ? failing[0]?.status.error
    : failing.map(({ name, status }) => `${name}: ${status.error ?? ''}`).join('; ')
  return {
    enabled: statuses.length > 0,
    healthy: statuses.length > 0 && failing.length === 0,
    ...(failing.length > 0 && error !== undefined && { error }),
    ...(statuses.length === 1 && statuses[0]?.status.circuit !== undefined && { circuit: statuses[0].status.circuit }),
    ...(statuses.length > 1 && { instances: Object.fromEntries(statuses.map(({ name, status }) => [name, status])) })
  }
}

/**
 * Creates the health of every instance. An instance is healthy when its last probe and its last crawl succeeded. Probes
 * run in the background: the other methods never wait for one.
 */
export function createHealth (instances: readonly Backend[], log: FastifyBaseLogger, options: HealthOptions = {}) {
  const { version = '' } = options
  const started = performance.now()
  const probes = createProbes(instances, log, options)
  let draining = false

  function statusOf (instance: Backend): InstanceStatus {
    const error = probes.problemOf(instance) ??
      (instance.failure === undefined ? undefined : reasonOf(instance.failure))
    const { circuit } = instance
    return {
      enabled: true,
      healthy: error === undefined,
      ...(error !== undefined && { error }),
      ...(circuit !== 'closed' && { circuit })
    }
  }

  const statusOfKind = (source: ExtensionSource): BackendStatus =>
    combine(instances.filter(instance => instance.source === source).map(instance => ({
      name: instance.name,
      status: statusOf(instance)
    })))
  const backends = (): BackendHealth => ({ gitea: statusOfKind('gitea'), oci: statusOfKind('oci') })
  const healthy = (): boolean => instances.every(instance => statusOf(instance).healthy)

  return {
    /** Starts probing. Resolves after the first probe of each instance. */
    start: probes.start,
    stop: probes.stop,
    /** Makes the service not ready from now on, because it is about to end. */
    drain (): void { draining = true },
    backends,
    /** Returns whether every instance is healthy. */
    healthy,
    /** Returns the body of the health routes, from the last probes. */
    report: (): HealthResponse => ({
      status: healthy() ? 'healthy' : 'degraded',
      version,
      uptime: Math.floor((performance.now() - started) / 1000),
      backends: backends()
    }),
    /** Returns whether anything can be served: by a healthy instance, or from a cached listing. */
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

/** Registers the gauges of the instances and of the catalog. */
function observe (fastify: FastifyInstance, health: Health): void {
  const { instances, census } = fastify.catalog
  fastify.telemetry.gauge(
    'backend_healthy',
    '1 if the backend is healthy, else 0',
    ['backend'],
    () => health.instances().map(({ name, healthy }) => ({ labels: { backend: name }, value: healthy ? 1 : 0 }))
  )
  fastify.telemetry.gauge(
    'backend_circuit',
    'State of the circuit breaker: 1 for the current state, 0 for the others',
    ['backend', 'state'],
    () =>
      instances.flatMap(({ name, circuit }) =>
        circuits.map(state => ({ labels: { backend: name, state }, value: circuit === state ? 1 : 0 }))
      )
  )
  fastify.telemetry.gauge('extensions_total', 'Total extensions', ['type', 'source'], async () => {
    const { extensions } = await census()
    return extensionTypes.flatMap(type => (['gitea', 'oci'] as const).map(source => ({
      labels: { type, source },
      value: extensions.filter(extension => extension.type === type && extension.source === source).length
    })))
  })
  fastify.telemetry.gauge(
    'extensions_shadowed_total',
    'Extensions of an instance that are not shown because an earlier instance owns them',
    ['backend'],
    async () => {
      const { shadowed } = await census()
      return instances.map(({ name }) => ({ labels: { backend: name }, value: shadowed.get(name) ?? 0 }))
    }
  )
}

async function health (fastify: FastifyInstance, options: HealthOptions): Promise<void> {
  const { instances } = fastify.catalog
  const firstRound = Promise.withResolvers<void>()
  const status = Object.assign(createHealth(instances, fastify.log, options), { firstRound: firstRound.promise })
  fastify.decorate('health', status)

  fastify.addHook('onReady', async () => {
    void status.start().then(() => { firstRound.resolve() })
    // Loads the listings before the first request. The probes report a failure.
    for (const instance of instances) instance.refresh()
  })
  fastify.addHook('preClose', async () => { status.drain() })
  fastify.addHook('onClose', async () => { status.stop() })
  observe(fastify, status)
}

export default fp(health, {
  name: 'registry-health',
  fastify: '5.x',
  dependencies: ['registry-catalog', 'registry-telemetry'],
  decorators: { fastify: ['catalog', 'telemetry'] }
})
