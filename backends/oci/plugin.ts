import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../../schemas/config.ts'
import { isRegistryAddress, type OciConfig } from '../../schemas/upstreams.ts'
import { createInstance, type Backend, type Instances } from '../cached/instance.ts'
import { createMapping } from '../driver/mapping.ts'
import { checkDockerConfig, createCredentials, knownAuthHosts } from './registry/credentials.ts'
import { createOciDriver } from './driver.ts'
import { createLayout } from './layout/layout.ts'
import { createOciRegistry } from './registry/client.ts'
import type { Transport } from './transport.ts'

export interface OciOptions { config: Config }

declare module 'fastify' {
  interface FastifyInstance { oci: Instances }
}

async function transportOf (fastify: FastifyInstance, oci: OciConfig): Promise<Transport> {
  const { name, namespace, ca_file: caFile } = oci
  if (!isRegistryAddress(oci.registry)) return createLayout({ instance: name, registry: oci.registry })
  const registry = new URL(oci.registry)
  const publicUrl = (oci.public_url ?? oci.registry).replace(/\/+$/, '')
  await checkDockerConfig(oci)
  const credentials = createCredentials(oci, registry, fastify.log)
  const upstream = await fastify.upstream({
    instance: name,
    url: registry.href,
    addressKey: 'oci.registry',
    timeout: oci.timeout_seconds,
    verifySsl: oci.verify_ssl,
    redirectHosts: oci.redirect_hosts,
    namedHosts: oci.auth_hosts,
    concurrency: oci.concurrency,
    waiting: oci.queue,
    ...(caFile !== undefined && { caFile })
  })
  return createOciRegistry(upstream, {
    instance: name,
    credentials,
    authHosts: [...oci.auth_hosts, ...knownAuthHosts(registry)],
    publicHost: new URL(publicUrl).host,
    discovery: oci.discovery,
    repositories: oci.repositories.map(repository => namespace === '' ? repository : `${namespace}/${repository}`),
    publicUrl,
    readsStates: oci.reconcile_seconds > 0,
    clock: fastify.cache.now,
    onRefused: () => {
      fastify.log.warn(
        { backend: name },
        'the registry does not list its repositories (_catalog): lists are incomplete; ' +
          'set oci.repositories, and discovery = "list" if they are all repositories'
      )
    }
  })
}

async function createOci (fastify: FastifyInstance, oci: OciConfig, publicUrl: string | undefined): Promise<Backend> {
  const { name, namespace } = oci
  const { immutable } = fastify.cache
  let logged = false
  const driver = createOciDriver({
    name,
    namespace,
    mapping: createMapping(oci.mapping),
    transport: await transportOf(fastify, oci),
    concurrency: oci.concurrency,
    reconcileSeconds: oci.reconcile_seconds,
    minReads: oci.crawl_repositories,
    ...(oci.platform !== undefined && { platform: oci.platform }),
    onFirstPlatform: choice => {
      if (!logged) {
        fastify.log.info(
          { backend: name, ...choice },
          'an index has several platforms: its first artifact is served; set oci.platform to choose another'
        )
      }
      logged = true
    },
    clock: fastify.cache.now,
    onDamage: () => { fastify.telemetry.observeDamage(name) },
    immutable
  })
  return createInstance(fastify, driver, oci, publicUrl)
}

/**
 * Decorates Fastify with `oci`: the configured OCI registries and directories of image layouts, each behind the cache.
 */
async function oci (fastify: FastifyInstance, { config }: OciOptions): Promise<void> {
  const instances: Backend[] = []
  for (const instance of config.oci) instances.push(await createOci(fastify, instance, config.server.public_url))
  fastify.decorate('oci', { instances })
}

export default fp(oci, {
  name: 'registry-oci',
  fastify: '5.x',
  dependencies: ['registry-cache', 'registry-telemetry', 'registry-upstream'],
  decorators: { fastify: ['cache', 'telemetry', 'upstream'] }
})
