import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import type { FastifyInstance } from 'fastify'
import catalog from './backends/catalog.ts'
import gitea from './backends/gitea/plugin.ts'
import health, { type HealthOptions } from './backends/health.ts'
import oci from './backends/oci/plugin.ts'
import warmStart, { type WarmStartOptions } from './backends/warm-start.ts'
import answers from './plugins/answer.ts'
import cache, { type CacheOptions } from './plugins/cache.ts'
import { parseConfig } from './plugins/config.ts'
import crossOrigin from './plugins/cross-origin.ts'
import downloads from './plugins/downloads.ts'
import errors from './plugins/errors.ts'
import loadShedding from './plugins/load-shedding.ts'
import openapi from './plugins/openapi.ts'
import rateLimit from './plugins/rate-limit.ts'
import requestId from './plugins/request-id.ts'
import schemas from './plugins/schemas.ts'
import securityHeaders from './plugins/security-headers.ts'
import telemetry from './plugins/telemetry.ts'
import upstream, { type UpstreamDependencies } from './plugins/upstream.ts'
import download from './routes/download.ts'
import extensions from './routes/extensions.ts'
import { apiSystem, rootSystem } from './routes/system.ts'

export { serverOptions, type ServerSettings } from './plugins/server-options.ts'
export type { Config } from './schemas/config.ts'
// Each of these modules declares its decorator: a host that takes the registry in without encapsulation finds them typed.
export type { Catalog } from './backends/catalog.ts'
export type { Health } from './backends/health.ts'
export type { Instances } from './backends/instances.ts'
export type { GiteaOptions } from './backends/gitea/plugin.ts'
export type { OciOptions } from './backends/oci/plugin.ts'
export type { Answer, Download, Page } from './plugins/answer.ts'
export type { Cache } from './plugins/cache.ts'
export type { Downloads } from './plugins/downloads.ts'
export type { OpenapiDocument } from './plugins/openapi.ts'
export type { SecurityHeaders } from './plugins/security-headers.ts'
export type { Telemetry } from './plugins/telemetry.ts'
export type { Upstream } from './plugins/upstream.ts'

export interface RegistryOptions extends HealthOptions, Pick<WarmStartOptions, 'saveInterval'>, Pick<CacheOptions, 'clock'> {
  /** The configuration, as in the TOML file; what is left out has its default. Throws at registration when it is not valid. */
  config: unknown
  /** How names are looked up, and which addresses may be connected to on hosts that the configuration does not name. */
  network?: Pick<UpstreamDependencies, 'guard' | 'resolver'>
}

const { version } = JSON.parse(readFileSync(findPackageJSON(import.meta.url) ?? '', 'utf8')) as { version: string }

/**
 * The extension registry as a plugin: `await host.register(registry, { prefix: '/registry', config: { … } })`. It is
 * encapsulated and shares nothing with its host, nor with another one in the same process but the directory of verified
 * files where both have the same; its routes are `{prefix}/api/v1/…`
 * and, beside them, `{prefix}/health`, `/livez`, `/readyz`, `/metrics`, `/openapi.yaml`, `/openapi.json` and `/docs`.
 */
export default async function registry (fastify: FastifyInstance, { config: given, clock, network, saveInterval, ...probes }: RegistryOptions): Promise<void> {
  const config = parseConfig(given)

  await fastify.register(schemas)
  await fastify.register(errors)
  await fastify.register(requestId)
  await fastify.register(securityHeaders, config.server)
  await fastify.register(cache, { ...config.cache, ...(clock && { clock }), budget: config.server.request_budget_seconds * 1000 })
  await fastify.register(telemetry)
  await fastify.register(crossOrigin, config.server)
  await fastify.register(upstream, { userAgent: `extension-registry/${version}`, ...network })
  await fastify.register(downloads, { config })
  await fastify.register(openapi)
  await fastify.register(answers, { ...config.cache, max_downloads: config.server.max_downloads })

  await fastify.register(gitea, { config })
  await fastify.register(oci, { config })
  await fastify.register(catalog)
  await fastify.register(warmStart, { ...config.cache, ...(saveInterval !== undefined && { saveInterval }) })
  await fastify.register(health, probes)

  // What refuses requests holds for the catalog alone: probes and metrics are answered whatever happens.
  await fastify.register(async scope => {
    await scope.register(loadShedding, config.server)
    await scope.register(rateLimit, config.rate_limit)
    await scope.register(extensions)
    await scope.register(download)
  }, { prefix: '/api/v1' })
  await fastify.register(apiSystem, { prefix: '/api/v1', version })
  await fastify.register(rootSystem, { version })
}
