import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { createSecret } from '../../lib/secret.ts'
import type { Config } from '../../schemas/config.ts'
import type { GiteaConfig } from '../../schemas/upstreams.ts'
import { createInstance, type Backend, type Instances } from '../cached/instance.ts'
import { createMapping } from '../driver/mapping.ts'
import { createGiteaApi } from './api.ts'
import { createChecksums } from './checksums.ts'
import { createGiteaDriver } from './driver.ts'

export interface GiteaOptions { config: Config }

declare module 'fastify' {
  interface FastifyInstance { gitea: Instances }
}

async function createGitea (
  fastify: FastifyInstance,
  gitea: GiteaConfig,
  publicUrl: string | undefined
): Promise<Backend> {
  const { name, organization, token, token_file: file, ca_file: caFile } = gitea
  const secret = createSecret({
    instance: name,
    key: 'token_file',
    log: fastify.log,
    ...(token !== undefined && { value: token }),
    ...(file !== undefined && { file })
  })
  const upstream = await fastify.upstream({
    instance: name,
    url: gitea.url,
    addressKey: 'gitea.url',
    authorization: async () => {
      const value = await secret()
      return value === undefined ? undefined : `token ${value}`
    },
    timeout: gitea.timeout_seconds,
    verifySsl: gitea.verify_ssl,
    redirectHosts: gitea.redirect_hosts,
    concurrency: gitea.concurrency,
    waiting: gitea.queue,
    ...(caFile !== undefined && { caFile })
  })
  // A crawl leaves two requests for clients.
  const concurrency = Math.max(1, gitea.concurrency - 2)
  const api = createGiteaApi(upstream, { owner: organization, concurrency })
  let privateCount = 0
  const driver = createGiteaDriver(api, createChecksums(api, { instance: name, immutable: fastify.cache.immutable }), {
    name,
    publicUrl: (gitea.public_url ?? gitea.url).replace(/\/+$/, ''),
    includePrivate: gitea.include_private,
    concurrency,
    reconcileSeconds: gitea.reconcile_seconds,
    clock: fastify.cache.now,
    mapping: createMapping(gitea.mapping),
    ...(gitea.platform !== undefined && { platform: gitea.platform }),
    onFirstPlatform: choice => {
      fastify.log.info(
        { backend: name, ...choice },
        'a release has files of several platforms: the first is served; set gitea.platform to choose another'
      )
    },
    onPrivate: count => {
      if (count !== privateCount) {
        fastify.log.warn(
          { backend: name, private: count },
          'private repositories are visible to every client of this registry; ' +
            'set include_private = false to hide them'
        )
      }
      privateCount = count
    }
  })
  return createInstance(fastify, driver, gitea, publicUrl)
}

/** Decorates Fastify with `gitea`: the configured Gitea and Forgejo instances, each behind the cache. */
async function gitea (fastify: FastifyInstance, { config }: GiteaOptions): Promise<void> {
  const instances: Backend[] = []
  for (const instance of config.gitea) instances.push(await createGitea(fastify, instance, config.server.public_url))
  fastify.decorate('gitea', { instances })
}

export default fp(gitea, {
  name: 'registry-gitea',
  fastify: '5.x',
  dependencies: ['registry-cache', 'registry-telemetry', 'registry-upstream'],
  decorators: { fastify: ['cache', 'telemetry', 'upstream'] }
})
