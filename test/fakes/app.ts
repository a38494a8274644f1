import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify'
import fp from 'fastify-plugin'
import type { Test } from 'tap'
import registry, { serverOptions, type RegistryOptions } from '../../app.ts'
import { unknownRoutes } from '../../plugins/errors.ts'
import { watchSecrets } from './canary.ts'
import { createClock } from './clock.ts'

/** Registers the registry without encapsulation, as `server.ts` does; the plugin itself is unchanged. */
export const whole = fp(async (fastify: FastifyInstance, options: RegistryOptions) => {
  await registry(fastify, options)
})

/**
 * Starts the registry of `server.ts` without a port, with a clock that moves only on command and its own store. The
 * test fails when any output contains a secret of the configuration.
 */
export async function startApp (t: Test, config: unknown, options: Partial<RegistryOptions> = {}): Promise<{
  app: FastifyInstance
  clock: ReturnType<typeof createClock>
  get: (url: string, headers?: Record<string, string>) => Promise<LightMyRequestResponse>
  /** Log lines of every level, as they were written. */
  lines: string[]
}> {
  const clock = createClock()
  const given = config as { server?: object, store?: object }
  const directory = await mkdtemp(join(tmpdir(), 'extension-registry-'))
  t.teardown(async () => { await rm(directory, { recursive: true, force: true }) })
  const { stream, watch } = watchSecrets(t, config)
  const lines: string[] = []
  const kept = { write: (line: string) => { lines.push(line); stream.write(line) } }
  const app = Fastify({ ...serverOptions(), logger: { level: 'trace', stream: kept } })
  t.teardown(async () => { await app.close() })
  watch(app)
  await app.register(whole, {
    config: {
      ...given,
      // A busy machine delays the event loop and responses; tests of these limits set their own.
      server: { max_event_loop_delay_seconds: 0, request_budget_seconds: 60, ...given.server },
      store: { directory, ...given.store }
    },
    clock: clock.now,
    ...options
  })
  await app.register(unknownRoutes)
  await app.ready()
  return { app, clock, lines, get: async (url, headers = {}) => await app.inject({ url, headers }) }
}

/** Returns the targets of a `Link` header by their `rel`. */
export function links (header: unknown): Record<string, string> {
  return Object.fromEntries(
    [...String(header).matchAll(/<([^>]*)>; rel="(\w+)"/g)].map(([, target = '', rel = '']) => [rel, target])
  )
}
