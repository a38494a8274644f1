import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import catalog from './backends/catalog/plugin.ts'
import gitea from './backends/gitea/plugin.ts'
import health from './backends/health.ts'
import oci from './backends/oci/plugin.ts'
import snapshots from './backends/snapshots/plugin.ts'
import replies from './plugins/replies/plugin.ts'
import cache from './plugins/cache/plugin.ts'
import { parseConfig } from './lib/config/parse.ts'
import crossOrigin, { preflights } from './plugins/cors.ts'
import downloads from './plugins/downloads/plugin.ts'
import errors, { unknownRoutes } from './plugins/errors.ts'
import loadShedding from './plugins/load-shedding.ts'
import methods from './plugins/methods.ts'
import openapi from './plugins/openapi.ts'
import rateLimit from './plugins/rate-limit.ts'
import requestId from './plugins/request-id.ts'
import schemas from './plugins/validation.ts'
import { sealPlugin } from './lib/seal-plugin.ts'
import securityHeaders from './plugins/security-headers.ts'
import telemetry from './plugins/metrics/plugin.ts'
import upstream from './plugins/upstream/plugin.ts'
import type { Guard, Resolver } from './plugins/upstream/addresses.ts'
import download from './routes/download.ts'
import extensions from './routes/extensions.ts'
import { apiSystem, rootSystem } from './routes/system.ts'
import type { RegistryConfig } from './schemas/config.ts'

// No exported type may come from a module that extends Fastify's types: a host would see the decorators of this plugin.
export type { Backend } from './backends/cached/backend.ts'
export type { Driver } from './backends/driver/driver.ts'
export { ConfigError } from './lib/config/parse.ts'
export { RegistryError, type ErrorType } from './lib/errors.ts'
export { serverOptions, type ServerSettings } from './lib/server-options.ts'
export { CacheStats } from './schemas/cache-stats.ts'
export type { RegistryConfig } from './schemas/config.ts'
export { ErrorResponse } from './schemas/error.ts'
export { Extension, ExtensionSource, ExtensionType, ExtensionVersion } from './schemas/extension.ts'
export { BackendHealth, BackendStatus, HealthResponse, InstanceStatus, ProbeResponse } from './schemas/health.ts'

export interface RegistryOptions {
  /** Configuration, as in the TOML file. An invalid value fails the registration with a {@link ConfigError}. */
  config: RegistryConfig
  /** Milliseconds from the start of a health probe to the start of the next one; 15,000 if unset. */
  probeInterval?: number
  /** Milliseconds after which a health probe fails; 4,000 if unset. */
  probeTimeout?: number
  /**
   * Milliseconds between two checks for a changed catalog, which is then saved to `cache.directory`; 5,000 if unset.
   */
  saveInterval?: number
  /** Returns the time of a monotonic clock in milliseconds; `performance.now()` if unset. */
  clock?: () => number
  /** Resolver of host names, and the check of addresses for hosts that are not in the configuration. */
  network?: { guard?: Guard, resolver?: Resolver }
}

const { version } = JSON.parse(readFileSync(findPackageJSON(import.meta.url) ?? '', 'utf8')) as { version: string }

/**
 * Returns whether the registry has a prefix of its own, below which every path belongs to it. A prefix of an outer
 * scope belongs to the host.
 */
const hasOwnPrefix = (fastify: FastifyInstance, prefix: string): boolean =>
  !['', '/'].includes(prefix) && fastify.prefix.endsWith(prefix)

async function registry (
  fastify: FastifyInstance,
  { config: given, clock, network, saveInterval, prefix = '', ...probes }: RegistryOptions & { prefix?: string }
): Promise<void> {
  const config = parseConfig(given)

  await fastify.register(schemas)
  await fastify.register(errors)
  await fastify.register(methods)
  await fastify.register(requestId)
  await fastify.register(securityHeaders, config.server)
  await fastify.register(cache, {
    ...config.cache,
    ...(clock && { clock }),
    budget: config.server.request_budget_seconds * 1000
  })
  await fastify.register(telemetry)
  await fastify.register(crossOrigin, config.server)
  await fastify.register(upstream, { userAgent: `extension-registry/${version}`, ...network })
  await fastify.register(downloads, { config })
  await fastify.register(openapi)
  await fastify.register(replies, { ...config.cache, max_downloads: config.server.max_downloads })

  await fastify.register(gitea, { config })
  await fastify.register(oci, { config })
  await fastify.register(catalog)
  await fastify.register(snapshots, { ...config.cache, ...(saveInterval !== undefined && { saveInterval }) })
  await fastify.register(health, { version, ...probes })

  // Load shedding and rate limits apply to the catalog only, so that probes and metrics respond under any load.
  await fastify.register(async scope => {
    await scope.register(loadShedding, config.server)
    await scope.register(rateLimit, config.rate_limit)
    await scope.register(extensions)
    await scope.register(download)
  }, { prefix: '/api/v1' })
  await fastify.register(apiSystem, { prefix: '/api/v1' })
  await fastify.register(rootSystem)
  await fastify.register(preflights)
  // Without a prefix, unknown routes belong to the server or the scope. `server.ts` handles them for a server, and a
  // host keeps its own handler.
  if (hasOwnPrefix(fastify, prefix)) await fastify.register(unknownRoutes)
}

/**
 * Registers the extension registry as an encapsulated plugin: `await host.register(registry, { prefix: '/registry',
 * config: { … } })`. Its decorators, hooks and handlers stay in its own scope. Registries in one process share only the
 * directory of verified files, if they are configured with the same one. Its routes are `{prefix}/api/v1/…`,
 * `{prefix}/health`, `/livez`, `/readyz`, `/metrics`, `/openapi.yaml`, `/openapi.json` and `/docs`.
 * `extension-registry/global` is the same plugin with the decorator `registry` on the host.
 */
const plugin: FastifyPluginAsync<RegistryOptions> = sealPlugin(registry)
export default plugin
