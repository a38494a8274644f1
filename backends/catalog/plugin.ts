import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { createCatalog, type Catalog } from './catalog.ts'

declare module 'fastify' {
  interface FastifyInstance { catalog: Catalog }
}

export async function catalog (fastify: FastifyInstance): Promise<void> {
  const backends = [...fastify.gitea.instances, ...fastify.oci.instances]
  fastify.decorate(
    'catalog',
    createCatalog({
      backends,
      downloads: fastify.downloads,
      log: fastify.log,
      negativeTtl: fastify.cache.times.negativeTtl,
      budget: fastify.cache.times.budget
    })
  )
}

export default fp(catalog, {
  name: 'registry-catalog',
  fastify: '5.x',
  dependencies: ['registry-cache', 'registry-downloads', 'registry-gitea', 'registry-oci'],
  decorators: { fastify: ['cache', 'downloads', 'gitea', 'oci'] }
})
