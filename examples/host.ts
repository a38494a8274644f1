import Fastify, { type FastifyInstance } from 'fastify'
import { serverOptions, type RegistryConfig } from 'extension-registry'
import registry from 'extension-registry/global'

const config: RegistryConfig = { log: { level: 'warn' }, oci: { registry: 'extensions' } }

/** Creates a host whose own route reads the catalog, by the decorator `registry`. */
export async function createHost (): Promise<FastifyInstance> {
  const host = Fastify(serverOptions(config))
  await host.register(registry, { prefix: '/registry', config })
  host.get('/names', async (): Promise<string[]> => {
    const { value } = await host.registry.catalog.list({ limit: 1000 })
    return value.items.map(({ name }) => name)
  })
  return host
}
