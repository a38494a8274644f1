import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config, OciConfig } from '../../schemas/config.ts'
import type { Backend } from '../backend.ts'
import { createInstance, type Instances } from '../instances.ts'
import { createMapping } from '../mapping.ts'
import { createSkip } from '../skips.ts'
import { createOciDriver } from './driver.ts'
import { createLayout } from './layout.ts'

export interface OciOptions { config: Config }

declare module 'fastify' {
  interface FastifyInstance { oci: Instances }
}

function createOci (fastify: FastifyInstance, oci: OciConfig, publicUrl: string | undefined): Backend {
  const { name, namespace, registry } = oci
  const { immutable } = fastify.cache
  const driver = createOciDriver({
    name,
    namespace,
    mapping: createMapping(oci.mapping),
    transport: createLayout({ instance: name, registry }),
    skip: createSkip(name, fastify.log, reason => { fastify.telemetry.observeSkip(name, reason) }),
    immutable
  })
  return createInstance(fastify, driver, oci, publicUrl)
}

/** `fastify.oci`: the configured trees of OCI image layouts, behind the cache. */
async function oci (fastify: FastifyInstance, { config }: OciOptions): Promise<void> {
  fastify.decorate('oci', { instances: config.oci.map(instance => createOci(fastify, instance, config.server.public_url)) })
}

export default fp(oci, {
  name: 'registry-oci',
  fastify: '5.x',
  dependencies: ['registry-cache', 'registry-telemetry'],
  decorators: { fastify: ['cache', 'telemetry'] }
})
