import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Upstream, UpstreamDependencies, UpstreamOptions } from './client.ts'

export type { Upstream, UpstreamDependencies } from './client.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Creates the HTTP client of one instance, which is closed with the server. The first call loads the HTTP library.
     */
    upstream: (options: UpstreamOptions) => Promise<Upstream>
  }
}

async function upstream (fastify: FastifyInstance, dependencies: UpstreamDependencies): Promise<void> {
  const clients: Upstream[] = []
  fastify.decorate('upstream', async (options: UpstreamOptions) => {
    const { createUpstream, readProxies } = await import('./client.ts')
    if (clients.length === 0) {
      const { ignored: { variable, entries } } = readProxies(dependencies.environment ?? process.env)
      if (entries.length > 0) {
        fastify.log.warn(
          { variable, entries },
          `${variable} has entries that are not a host, an address or a network: they are ignored`
        )
      }
    }
    const client = createUpstream({
      observe: fastify.telemetry.observeUpstream,
      clock: fastify.cache.now,
      log: fastify.log,
      ...dependencies
    }, options)
    clients.push(client)
    return client
  })
  fastify.addHook('onClose', async () => { clients.forEach(client => { client.close() }) })
}

export default fp(upstream, {
  name: 'registry-upstream',
  fastify: '5.x',
  dependencies: ['registry-cache', 'registry-telemetry'],
  decorators: { fastify: ['cache', 'telemetry'] }
})
