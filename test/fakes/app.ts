import Fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify'
import fp from 'fastify-plugin'
import type { Test } from 'tap'
import registry, { serverOptions, type RegistryOptions } from '../../app.ts'
import { parseConfig } from '../../plugins/config.ts'
import { notFoundHandler } from '../../plugins/errors.ts'
import { createClock } from './clock.ts'

/** The registry on a server of its own, as `server.ts` has it but without a port, with a clock that stands until it is moved. */
export async function startApp (t: Test, config: unknown, options: Partial<RegistryOptions> = {}): Promise<{ app: FastifyInstance, clock: ReturnType<typeof createClock>, get: (url: string, headers?: Record<string, string>) => Promise<LightMyRequestResponse> }> {
  const clock = createClock()
  const app = Fastify(serverOptions(parseConfig({ log: { level: 'silent' } })))
  t.teardown(async () => { await app.close() })
  app.setNotFoundHandler(notFoundHandler)
  await app.register(fp(registry), { config, clock: clock.now, ...options })
  await app.ready()
  return { app, clock, get: async (url, headers = {}) => await app.inject({ url, headers }) }
}

/** The `rel`s of a `Link` header with their targets. */
export function links (header: unknown): Record<string, string> {
  return Object.fromEntries([...String(header).matchAll(/<([^>]*)>; rel="(\w+)"/g)].map(([, target = '', rel = '']) => [rel, target]))
}
