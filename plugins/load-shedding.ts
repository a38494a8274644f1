import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { registryError, type RegistryError } from '../lib/errors.ts'
import type { ServerConfig } from '../schemas/config.ts'
import type { Telemetry } from './metrics/registry.ts'

export type LoadSheddingOptions = Pick<ServerConfig, 'max_event_loop_delay_seconds'>

export interface LoadSheddingDependencies extends Pick<Telemetry, 'observeShed'> {
  /** Returns whether the delay of the event loop exceeds its limit. */
  isUnderPressure: () => boolean
}

/** Interval in milliseconds at which the histogram samples the event loop. */
const resolutionMs = 10
/** Milliseconds over which the mean delay is measured. */
const sampleMs = 1000

/**
 * Creates a meter of the mean delay of the event loop over the last second, in milliseconds. It returns 0 during the
 * first second.
 */
export function createDelayMeter () {
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs })
  let delayMs = 0
  histogram.enable()
  const timer = setInterval(() => {
    // Without a sample the mean is not a number.
    delayMs = histogram.count === 0 ? 0 : Math.max(0, histogram.mean / 1e6 - resolutionMs)
    histogram.reset()
  }, sampleMs).unref()
  return {
    delay: () => delayMs,
    stop (): void {
      clearInterval(timer)
      histogram.disable()
    }
  }
}

/**
 * Creates the function that returns the error for a refused request, or undefined when the process is not overloaded.
 */
export function createLoadShedding ({ isUnderPressure, observeShed }: LoadSheddingDependencies) {
  return (): RegistryError | undefined => {
    if (!isUnderPressure()) return undefined
    observeShed('event_loop')
    return registryError('service_unavailable', 'The registry is overloaded')
  }
}
export type LoadShedding = ReturnType<typeof createLoadShedding>

/**
 * Refuses the requests of the scope with 503 while the mean delay of the event loop exceeds its limit. A limit of 0
 * turns this off.
 */
async function loadShedding (
  fastify: FastifyInstance,
  { max_event_loop_delay_seconds: maxSeconds }: LoadSheddingOptions
): Promise<void> {
  if (maxSeconds === 0) return
  let meter: ReturnType<typeof createDelayMeter> | undefined
  // The start blocks the event loop before any client waits, so the measurement begins when the server is ready.
  fastify.addHook('onReady', async () => { meter = createDelayMeter() })
  fastify.addHook('onClose', async () => { meter?.stop() })
  const isUnderPressure = () => (meter?.delay() ?? 0) > maxSeconds * 1000
  const shed = createLoadShedding({ isUnderPressure, observeShed: fastify.telemetry.observeShed })
  fastify.addHook('onRequest', (_request, _reply, done) => { done(shed()) })
}

export default fp(loadShedding, {
  name: 'registry-load-shedding',
  fastify: '5.x',
  dependencies: ['registry-telemetry'],
  decorators: { fastify: ['telemetry'] }
})
