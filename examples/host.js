import Fastify from 'fastify'
import registry, { serverOptions } from 'extension-registry'

const host = Fastify(serverOptions())
host.get('/', async () => ({ catalog: '/registry/api/v1/extensions' }))
await host.register(registry, {
  prefix: '/registry',
  config: { oci: { registry: 'extensions' } }
})
await host.listen({ port: Number(process.env.PORT ?? 8080) })
