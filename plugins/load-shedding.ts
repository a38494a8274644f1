import underPressure from '@fastify/under-pressure'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { ServerConfig } from '../schemas/config.ts'
import { registryError, type RegistryError } from '../lib/errors.ts'
import { privateServer } from './private-server.ts'
import type { Telemetry } from './metrics/registry.ts'

export type LoadSheddingOptions = Pick<ServerConfig, 'max_event_loop_delay_seconds'>

export interface LoadSheddingDependencies extends Pick<Telemetry, 'observeShed'> {
  /** Whether the process is late with everything. */
  isUnderPressure: () => boolean
}

/** Gives the error that a request is refused with; undefined while there is time for it. */
export function createLoadShedding ({ isUnderPressure, observeShed }: LoadSheddingDependencies) {
  return (): RegistryError | undefined => {
    if (!isUnderPressure()) return undefined
    observeShed('event_loop')
    return registryError('service_unavailable', 'The registry is overloaded')
  }
}
export type LoadShedding = ReturnType<typeof createLoadShedding>

/** Refuses the requests of the scope while the event loop lags: what is answered at once costs least. Of a host that does so itself nothing is touched. */
async function loadShedding (fastify: FastifyInstance, { max_event_loop_delay_seconds: most }: LoadSheddingOptions): Promise<void> {
  if (most === 0) return
  let watch: Awaited<ReturnType<typeof privateServer>> | undefined
  // A process that starts is late with everything, and with nothing that anybody waits for.
  fastify.addHook('onReady', async () => {
    watch = await privateServer(underPressure, { maxEventLoopDelay: most * 1000 })
    await watch.ready()
  })
  fastify.addHook('onClose', async () => { await watch?.close() })
  const isUnderPressure = () => {
    const { eventLoopDelay = 0 } = watch?.memoryUsage() ?? {}
    // Infinite is what it says before it has measured anything.
    return Number.isFinite(eventLoopDelay) && eventLoopDelay > most * 1000
  }
  const shed = createLoadShedding({ isUnderPressure, observeShed: fastify.telemetry.observeShed })
  fastify.addHook('onRequest', (_request, _reply, done) => { done(shed()) })
}

export default fp(loadShedding, { name: 'registry-load-shedding', fastify: '5.x', dependencies: ['registry-telemetry'], decorators: { fastify: ['telemetry'] } })
