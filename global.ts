import { Type, type Static, type TObject } from '@sinclair/typebox'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import encapsulated, { type RegistryOptions } from './app.ts'
import type { InstanceIssue as InnerIssue, Result } from './lib/result.ts'
import { toRegistryError, type RegistryError } from './lib/errors.ts'
import { sealPlugin } from './lib/seal-plugin.ts'
import type { Extension, ExtensionSource, ExtensionType, ExtensionVersion } from './schemas/extension.ts'
import type { HealthResponse } from './schemas/health.ts'
import { ExtensionPath, ListQuery, SearchQuery, SourceQuery } from './schemas/parameters.ts'

/** An instance that makes a result incomplete or stale, and its error if there is one. */
export interface InstanceIssue { instance: string, error?: RegistryError }

/** A value of the catalog and its provenance. */
export interface CatalogResult<T> {
  value: T
  /** Seconds since the upstreams returned the value. For several upstreams, the age of the oldest response. */
  age: number
  /** Seconds that the value stays fresh; 0 when it is stale or incomplete. */
  ttl: number
  /** Instances whose stale entries were used. */
  stale: InstanceIssue[]
  /** Instances whose entries are missing. */
  missing: InstanceIssue[]
}

/** Part of a list, and the number of entries of the whole list. */
export interface ListPage<T> { items: T[], total: number }

/** Extension that a call refers to. With `source`, only backends of that kind can own it. */
export interface ExtensionName { type: ExtensionType, name: string, source?: ExtensionSource | undefined }

/** Limits a list to extensions of one type, and to backends of one kind. */
export interface ExtensionFilter { type?: ExtensionType | undefined, source?: ExtensionSource | undefined }

/**
 * Catalog for routes of the host. Parameters, defaults and limits are those of the HTTP API. Each method rejects with a
 * {@link RegistryError} of the same code as the API, such as `invalid_request`, `not_found` or `service_unavailable`.
 * Values are copies, so that changes to them do not affect the registry.
 */
export interface RegistryCatalog {
  /** Returns a page of all extensions, by type and then by name. */
  list(
    query?: ExtensionFilter & { limit?: number | undefined, offset?: number | undefined }
  ): Promise<CatalogResult<ListPage<Extension>>>
  /** Returns the best matches for `q`, the best match first. */
  search(
    query: ExtensionFilter & { q: string, limit?: number | undefined }
  ): Promise<CatalogResult<ListPage<Extension>>>
  /** Returns an extension at its current version. */
  find (extension: ExtensionName): Promise<CatalogResult<Extension>>
  /** Returns all versions of an extension, highest first. */
  versions (extension: ExtensionName): Promise<CatalogResult<ExtensionVersion[]>>
}

/** Registry as the decorator `registry` of its host. */
export interface Registry {
  /** Version of the package. */
  readonly version: string
  readonly catalog: RegistryCatalog
  /** Returns the body of `GET /health`, from the last background probes. It sends no request to an upstream. */
  health (): HealthResponse
  /**
   * Returns whether `GET /readyz` succeeds: an instance is healthy or the catalog is cached, and the server is not
   * closing.
   */
  ready (): boolean
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The extension registry that is registered on this host. */
    registry: Registry
  }
}

const copyExtension = ({ tags, ...extension }: Extension): Extension => ({
  ...extension,
  ...(tags !== undefined && { tags: [...tags] })
})
const copyPage = ({ items, total }: { items: readonly Extension[], total: number }): ListPage<Extension> => ({
  items: items.map(copyExtension),
  total
})
const copyIssue = ({ instance, error }: InnerIssue): InstanceIssue => ({
  instance,
  ...(error !== undefined && { error })
})

/** Returns the public result of an inner one. */
function resultOf<T, U> ({ value, age, ttl, stale, missing }: Result<T>, copy: (value: T) => U): CatalogResult<U> {
  return { value: copy(value), age, ttl, stale: stale.map(copyIssue), missing: missing.map(copyIssue) }
}

const NameQuery = Type.Object({ ...ExtensionPath.properties, ...SourceQuery.properties })

/**
 * Returns a function that validates the parameters of a host's call by the rules of the API, and fills in defaults. It
 * throws the error that the API would return. The schema is compiled at the first call.
 */
function readerOf<S extends TObject> (scope: FastifyInstance, schema: S): (given: object | undefined) => Static<S> {
  let validate: ReturnType<NonNullable<FastifyInstance['validatorCompiler']>> | undefined
  return given => {
    validate ??= scope.validatorCompiler?.({ schema, method: 'GET', url: '', httpPart: 'querystring' })
    const parameters = Object.fromEntries(
      Object.entries(given ?? {}).filter(([key]) => Object.hasOwn(schema.properties, key))
    )
    if (validate?.(parameters) !== true) {
      throw toRegistryError({ validation: validate?.errors ?? [], validationContext: 'catalog' })
    }
    return parameters as Static<S>
  }
}

/** Creates the public interface of a registry from the decorators of its own scope. */
function createRegistry (scope: FastifyInstance): Registry {
  const { catalog, health } = scope
  const listQuery = readerOf(scope, ListQuery)
  const searchQuery = readerOf(scope, SearchQuery)
  const nameQuery = readerOf(scope, NameQuery)
  return {
    version: health.report().version,
    catalog: {
      list: async query => resultOf(await catalog.list(listQuery(query)), copyPage),
      search: async query => resultOf(await catalog.search(searchQuery(query)), copyPage),
      find: async extension => resultOf(await catalog.find(nameQuery(extension)), copyExtension),
      versions: async extension =>
        resultOf(await catalog.versions(nameQuery(extension)), versions => versions.map(version => ({ ...version })))
    },
    health: health.report,
    ready: health.ready
  }
}

/**
 * Registers the extension registry without encapsulation: `await host.register(registry, { prefix: '/registry', config:
 * { … } })`. It adds one decorator to the host: `registry`, a {@link Registry}. Everything else stays in a scope of its
 * own, as with the encapsulated plugin, and routes are below `prefix`. A second registration on the same host fails
 * with Fastify's FST_ERR_DEC_ALREADY_PRESENT; register it in a scope instead.
 */
const plugin: FastifyPluginAsync<RegistryOptions> = sealPlugin(
  fp(async (fastify: FastifyInstance, options: RegistryOptions) => {
    // The options include the host's `prefix`, which Fastify ignores for a plugin without encapsulation.
    await fastify.register(async scope => {
      await scope.register(fp(encapsulated), options)
      fastify.decorate('registry', createRegistry(scope))
    }, options)
  }, { name: 'extension-registry', fastify: '5.x' })
)
export default plugin
