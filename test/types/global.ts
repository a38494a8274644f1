// A host that imports the plugin without encapsulation. Compiled against the declarations of the package, never run.
import Fastify, { type FastifyInstance } from 'fastify'
import { serverOptions, type Extension, type HealthResponse } from 'extension-registry'
import registry, { type CatalogResult, type ExtensionName, type InstanceIssue, type ListPage, type Registry, type RegistryCatalog } from 'extension-registry/global'

const host = Fastify(serverOptions())
await host.register(registry, { prefix: '/registry', config: { oci: { registry: 'extensions' } } })
await Fastify({ http2: true }).register(registry, instance => ({ prefix: instance.prefix, config: {} }))

const face: Registry = host.registry
const catalog: RegistryCatalog = face.catalog
export const health: HealthResponse = face.health()
export const state: [boolean, string] = [face.ready(), face.version]
const aws: ExtensionName = { type: 'provider', name: 'aws' }
export const list: CatalogResult<ListPage<Extension>> = await catalog.list()
export const page = await catalog.list({ type: 'provider', source: undefined, limit: 10, offset: 20 })
export const found: Extension[] = (await catalog.search({ q: 'kube' })).value.items
export const { value, stale }: { value: Extension, stale: InstanceIssue[] } = await catalog.find({ ...aws, source: 'oci' })
export const versions: string[] = (await catalog.versions(aws)).value.map(({ version }) => version)
export const fromScope = (scope: FastifyInstance): Registry => scope.registry

// @ts-expect-error: an unknown table
await host.register(registry, { config: { severr: 1 } })
// @ts-expect-error: an inner decorator
host.catalog.list({ limit: 1, offset: 0 })
// @ts-expect-error: another inner decorator
host.telemetry.register.metrics()
// @ts-expect-error: a decorator that a library of the registry adds
host.swagger()
// @ts-expect-error: an inner method of the catalog
await catalog.census()
// @ts-expect-error: an inner method of health
face.health.drain()
// @ts-expect-error: an unknown type of extension
await catalog.list({ type: 'plugin' })
// @ts-expect-error: an unknown parameter
await catalog.find({ type: 'provider', name: 'aws', deadline: 1 })
// @ts-expect-error: a search without a query
await catalog.search({})
// @ts-expect-error: the decorator is read-only
face.version = '2.0.0'
