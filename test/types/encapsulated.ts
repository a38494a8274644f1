// A host that imports the encapsulated plugin only. Compiled against the declarations of the package, never run.
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyPluginAsync } from 'fastify'
import { pino } from 'pino'
import registry, {
  BackendHealth, BackendStatus, CacheStats, ConfigError, ErrorResponse, Extension, ExtensionSource, ExtensionType, ExtensionVersion, HealthResponse, InstanceStatus, ProbeResponse,
  RegistryError, serverOptions, type Backend, type Driver, type ErrorType, type RegistryConfig, type RegistryOptions, type ServerSettings
} from 'extension-registry'

const settings: ServerSettings = { server: { trust_proxy: true, trusted_proxies: ['10.0.0.0/8'] }, log: {} }
const host = Fastify(serverOptions(settings))

// Keys with a default are optional at every level; other keys are required.
const empty: RegistryConfig = {}
const tables: RegistryConfig = { server: {}, log: {}, rate_limit: {}, cache: {}, store: {}, gitea: [], oci: [] }
const single: RegistryConfig = { gitea: { url: 'https://git.example.com', organization: 'extensions' }, oci: { registry: 'extensions' } }
const several = {
  log: { level: 'warn' },
  cache: { ttl_seconds: 60, directory: undefined },
  gitea: [{ url: 'https://git.example.com', organization: 'extensions', token: process.env['TOKEN'], mapping: { provider: ['{name}_p'] } }],
  oci: [{ registry: 'extensions', mapping: {} }, { name: 'other', registry: 'https://registry.example.com', discovery: 'list', repositories: ['provider/aws'] }]
} as const satisfies RegistryConfig

await host.register(registry, { prefix: '/one', config: empty, logLevel: 'warn' })
await host.register(registry, { config: tables, probeInterval: 1000 })
await host.register(registry, instance => ({ prefix: instance.prefix, config: single }))
await host.register(import('extension-registry'), { config: several })
const options: RegistryOptions = { config: { oci: { registry: 'extensions' } } }
export const plugin: FastifyPluginAsync<RegistryOptions> = registry

// Hosts of another server, type provider and logger.
await Fastify({ http2: true }).register(registry, options)
await Fastify({ https: {} }).register(registry, options)
await Fastify({ http2: true, https: {} }).withTypeProvider<TypeBoxTypeProvider>().register(registry, options)
await Fastify({ loggerInstance: pino() }).register(registry, options)
await Fastify().withTypeProvider<TypeBoxTypeProvider>().register(async scope => { await scope.register(registry, options) })

// Each model is both a schema and a type.
for (const schema of [BackendHealth, BackendStatus, CacheStats, ErrorResponse, ExtensionSource, ExtensionVersion, HealthResponse, InstanceStatus, ProbeResponse]) host.addSchema(schema)
const type: ExtensionType = 'taskserv'
const source: ExtensionSource = 'oci'
export const extension: Extension = { name: 'k3s', type, version: '1.0.0', description: '', source, published_at: '2025-10-06T12:00:00Z' }
export const version: ExtensionVersion = { version: '1.0.0', published_at: '2025-10-06T12:00:00Z' }
export const body: ErrorResponse = { error: 'not_found', message: '' }
export const health = (response: HealthResponse): Array<BackendHealth | BackendStatus | InstanceStatus | undefined> => [response.backends, response.backends.oci, response.backends.oci.instances?.['oci']]
export const counts = (stats: CacheStats, probe: ProbeResponse): [number, string] => [stats.total_entries, probe.status]
export const isMissing = (error: unknown): boolean => error instanceof RegistryError && error.code === 'not_found' && error.statusCode === 404
export const codeOf = (error: ConfigError): ErrorType => error.code
export const sourceOf = (backend: Backend, driver: Driver): ExtensionSource[] => [backend.source, driver.source]

// @ts-expect-error: an unknown table
await host.register(registry, { config: { severr: 1 } })
// @ts-expect-error: an unknown key of a table
await host.register(registry, { config: { server: { prot: 8080 } } })
// @ts-expect-error: an unknown key of an instance
await host.register(registry, { config: { oci: { registry: 'extensions', tokn: 'x' } } })
// @ts-expect-error: an unknown key of an instance in a list
await host.register(registry, { config: { gitea: [{ url: 'https://git.example.com', organization: 'extensions', tokn: 'x' }] } })
// @ts-expect-error: a value of another type
await host.register(registry, { config: { cache: { ttl_seconds: '60' } } })
// @ts-expect-error: a value that is not allowed
await host.register(registry, { config: { store: { on_rerelease: 'ignore' } } })
// @ts-expect-error: an instance without an organisation
await host.register(registry, { config: { gitea: { url: 'https://git.example.com' } } })
// @ts-expect-error: an unknown option beside the configuration
await host.register(registry, { config: {}, probeIntervall: 1 })
// @ts-expect-error: missing options
const none: RegistryOptions = {}
// @ts-expect-error: an unknown level
serverOptions({ log: { level: 'loud' } })
// @ts-expect-error: the decorator of the other export
host.registry.health()
// @ts-expect-error: an inner decorator
host.catalog.list({ limit: 1, offset: 0 })
// @ts-expect-error: another inner decorator
host.health.drain()
// @ts-expect-error: a decorator that a library of the registry adds
host.swagger()
host.get('/', async (_request, reply) => {
  // @ts-expect-error: an inner decorator of replies
  await reply.answer({})
})
// Routes of the registry have the same key with a value of another type.
host.get('/probe', { config: { probe: 'of the host' } }, async () => none)
// @ts-expect-error: an inner type
export type { Cache } from 'extension-registry'
// @ts-expect-error: an inner module
export type { Catalog } from 'extension-registry/dist/backends/catalog.js'
