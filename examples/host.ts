import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import registry, { serverOptions, type Config, type RegistryOptions } from 'extension-registry'

const log: Config['log'] = { level: 'warn' }
const options: RegistryOptions = { config: { oci: { registry: 'extensions' } } }

/** A host whose own routes ask the catalog: without encapsulation it has the registry's decorators. */
export async function createHost (): Promise<FastifyInstance> {
  const host = Fastify(serverOptions({ log }))
  await host.register(fp(registry), options)
  host.get('/names', async (): Promise<string[]> => {
    const { value } = await host.catalog.list({ limit: 1000, offset: 0 })
    return value.items.map(({ name }) => name)
  })
  return host
}
