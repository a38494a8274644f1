import { cpSync, readdirSync, readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import fp from 'fastify-plugin'
import t, { type Test } from 'tap'
import * as encapsulated from '../app.ts'
import * as unencapsulated from '../global.ts'
import { createGiteaFake, provisioningContent } from './fakes/gitea.ts'
import { writeLayout } from './fakes/layout.ts'
import { matchStrictly } from './fakes/match.ts'

const { default: registry, ConfigError, Extension, ExtensionSource, ExtensionType, RegistryError } = encapsulated
const { default: globalRegistry } = unencapsulated

const layouts = join(t.testdir({}), 'layouts')
await writeLayout(layouts, [
  { repository: 'provider/aws', tag: '1.0.0' },
  { repository: 'provider/aws', tag: '1.1.0' },
  { repository: 'taskserv/k3s', tag: '2.0.0' }
])
// A busy machine delays the event loop.
const config = { oci: { registry: layouts }, server: { max_event_loop_delay_seconds: 0 } }

function createHost (t: Test, options: FastifyServerOptions = {}) {
  const host = Fastify(options)
  t.teardown(async () => { await host.close() })
  return host
}

await t.test('fp() on an exported plugin returns a new function and leaves the export unchanged', async t => {
  for (const [name, plugin] of [['default', registry], ['global', globalRegistry]] as const) {
    const own = fp(plugin)
    t.ok(own !== plugin, name)
    const first = createHost(t)
    await first.register(own, { config })
    t.equal((await first.inject('/api/v1/extensions')).statusCode, 200, name)
    t.ok(fp(plugin) !== own, 'each call returns another function')
    fp(plugin, { name: 'mine', encapsulate: true })
  }

  const second = createHost(t)
  await second.register(registry, { prefix: '/one', config })
  await second.register(globalRegistry, { prefix: '/two', config })
  for (const prefix of ['/one', '/two']) {
    t.equal((await second.inject(`${prefix}/api/v1/extensions`)).statusCode, 200, prefix)
  }
  t.equal((await second.inject('/api/v1/extensions')).statusCode, 404)
  t.ok(second.hasDecorator('registry'), 'the second export is still not encapsulated')
  t.ok(second.hasPlugin('extension-registry'), 'the second export has its name')
  t.notOk(second.hasDecorator('catalog'))
})

await t.test('any other change to an exported plugin throws an error with the remedy and has no effect', async t => {
  for (const [name, exports] of [['default', encapsulated], ['global', unencapsulated]] as const) {
    const before = Reflect.get(exports.default, Symbol.for('skip-override')) as unknown
    t.throws(
      () => {
        fp(exports as never)
      },
      { message: /extension-registry\/global/ },
      `${name}: fp() on the module`
    )
    t.throws(
      () => {
        Reflect.set(exports.default, Symbol.for('skip-override'), before !== true)
      },
      { message: /extension-registry\/global/ },
      name
    )
    t.throws(
      () => {
        Object.assign(exports.default, { default: exports.default })
      },
      TypeError,
      name
    )
    t.equal(Reflect.get(exports.default, Symbol.for('skip-override')), before, name)
  }
})

await t.test('a module namespace and a promise of a module namespace can be registered directly', async t => {
  const host = createHost(t)
  await host.register(import('../app.ts'), { prefix: '/one', config })
  await host.register(import('../global.ts'), { prefix: '/two', config })
  for (const prefix of ['/one', '/two']) {
    t.equal((await host.inject(`${prefix}/api/v1/extensions`)).statusCode, 200, prefix)
  }
})

const root = fileURLToPath(new URL('..', import.meta.url))

/** Returns the names of all decorators in the sources, and those of the plugins that the registry registers. */
function decorators (method: 'decorate' | 'decorateReply'): string[] {
  const sources = ['plugins', 'backends'].flatMap(room =>
    readdirSync(`${root}${room}`, { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts'))
      .map(file => readFileSync(`${root}${room}/${file}`, 'utf8'))
  )
  const own = sources.flatMap(source =>
    [...source.matchAll(new RegExp(`\\.${method}\\(\\s*'(\\w+)'`, 'g'))].map(([, name = '']) => name)
  )
  return [...own, ...(method === 'decorate' ? ['rateLimit', 'httpMetrics'] : ['sendFile'])]
}

/** Returns all properties of a host that a registration could change. */
function tracesOf (host: ReturnType<typeof createHost>): Record<string, unknown> {
  return {
    keys: Reflect.ownKeys(host).map(String).sort(),
    inner: decorators('decorate').filter(name => host.hasDecorator(name)),
    replies: decorators('decorateReply').filter(name => host.hasReplyDecorator(name)),
    requests: ['corsPreflightEnabled'].filter(name => host.hasRequestDecorator(name)),
    schemas: Object.keys(host.getSchemas()),
    parsers: ['application/json', 'text/plain', '*'].filter(type => host.hasContentTypeParser(type)),
    errorHandler: host.errorHandler,
    validator: host.validatorCompiler,
    serializer: host.serializerCompiler
  }
}

for (
  const [name, plugin, added] of [['encapsulated', registry, []], ['not encapsulated', globalRegistry, [
    'registry'
  ]]] as const
) {
  await t.test(`decorators, hooks, handlers, schemas and options of a host stay unchanged: ${name}`, async t => {
    for (const prefix of ['/registry', undefined]) {
      const host = createHost(t, {
        serializerOpts: { rounding: 'ceil' },
        ajv: { customOptions: { coerceTypes: false } }
      })
      host.addHook('onRequest', async (_request, reply) => {
        reply.header('x-of-the-host', 'kept')
      })
      host.setErrorHandler(async (_error, _request, reply) => reply.code(418).send({ host: 'error' }))
      host.setNotFoundHandler(async (_request, reply) => reply.code(404).send({ host: 'not found' }))
      host.get('/rounded', {
        schema: { response: { 200: { type: 'object', properties: { count: { type: 'integer' } } } } }
      }, async () => ({ count: 1.2 }))
      const before = tracesOf(host)
      await host.register(plugin, { ...(prefix !== undefined && { prefix }), config })
      host.get('/fails', async () => {
        throw new Error('of the host')
      })
      host.get(
        '/strict',
        { schema: { querystring: { type: 'object', properties: { count: { type: 'integer' } } } } },
        async () => ({})
      )
      host.post('/echo', async ({ body }) => body)
      const after = tracesOf(host)
      t.strictSame({ ...after, keys: [] }, { ...before, keys: [] })
      const knownKeys = before['keys'] as string[]
      t.strictSame(
        (after['keys'] as string[]).filter(key => !knownKeys.includes(key) && !key.startsWith('Symbol(')),
        added
      )
      await host.ready()

      const fails = await host.inject('/fails')
      t.strictSame(fails.json(), { host: 'error' })
      t.strictSame((await host.inject('/nowhere')).json(), { host: 'not found' })
      t.strictSame((await host.inject('/rounded')).json(), { count: 2 }, 'serializerOpts')
      t.strictSame((await host.inject('/strict?count=1')).json(), { host: 'error' }, 'ajv')
      t.strictSame((await host.inject({ method: 'POST', url: '/echo', payload: { a: 1 } })).json(), { a: 1 })
      t.equal(fails.headers['x-of-the-host'], 'kept')
      for (
        const header of [
          'x-request-id',
          'access-control-allow-origin',
          'content-security-policy',
          'x-content-type-options',
          'ratelimit'
        ]
      ) t.notOk(header in fails.headers, header)
      const { statusCode, headers } = await host.inject(`${prefix ?? ''}/api/v1/extensions?limit=1`)
      t.equal(statusCode, 200)
      matchStrictly(t, headers, { 'x-total-count': '2', 'x-of-the-host': 'kept', 'x-content-type-options': 'nosniff' })
      matchStrictly(t, (await host.inject(`${prefix ?? ''}/api/v1/extensions/plugin/x`)).json(), {
        error: 'invalid_type'
      })
    }
  })

  await t.test(`a host can add the exported schemas before the registration: ${name}`, async t => {
    const host = createHost(t)
    for (const schema of [ExtensionType, ExtensionSource, Extension]) host.addSchema(schema)
    await host.register(plugin, { prefix: '/registry', config })
    host.get(
      '/one',
      { schema: { response: { 200: { $ref: 'registry.Extension#' } } } },
      async () => ({
        name: 'x',
        type: 'provider',
        version: '1.0.0',
        description: '',
        source: 'oci',
        published_at: '1970-01-01T00:00:00Z',
        more: 1
      })
    )
    t.notOk(Object.hasOwn((await host.inject('/one')).json<object>(), 'more'))
    t.equal((await host.inject('/registry/api/v1/extensions')).statusCode, 200)

    const other = createHost(t)
    other.addSchema({ $id: 'registry.Extension', type: 'string' })
    await t.rejects(
      async () => {
        await other.register(plugin, { prefix: '/registry', config })
      },
      { code: 'FST_ERR_SCH_ALREADY_PRESENT' },
      'another schema with that id'
    )
  })

  await t.test(`an invalid configuration fails the registration with a ConfigError: ${name}`, async t => {
    const host = createHost(t)
    const error = await host.register(plugin, { config: { severr: 1 } as never }).then(
      () => undefined,
      (error: unknown) => error
    )
    t.ok(error instanceof ConfigError)
    matchStrictly(t, error, { code: 'config_error', key: 'severr', message: /unknown key/ })
  })
}

await t.test('the reply serializer and validation error formatter of a host apply only to its own routes', async t => {
  const host = createHost(t)
  host.setReplySerializer(() => '"by the host"')
  host.setSchemaErrorFormatter(() => new Error('by the host'))
  host.get('/own', async () => ({}))
  await host.register(registry, { prefix: '/one', config })
  await host.register(globalRegistry, { prefix: '/two', config })
  t.equal((await host.inject('/own')).json(), 'by the host')
  for (const prefix of ['/one', '/two']) {
    matchStrictly(t, (await host.inject(`${prefix}/health`)).json(), { backends: { oci: { enabled: true } } })
    matchStrictly(t, (await host.inject(`${prefix}/openapi.json`)).json(), { openapi: '3.1.0' })
    matchStrictly(t, (await host.inject(`${prefix}/api/v1/extensions?limit=0`)).json(), {
      error: 'invalid_request',
      message: /limit/
    })
  }
})

await t.test('routes of the host read the catalog through the decorator', async t => {
  const gitea = await createGiteaFake(provisioningContent())
  t.teardown(gitea.close)
  const host = createHost(t)
  await host.register(globalRegistry, {
    prefix: '/registry',
    config: { ...config, gitea: { url: gitea.url, organization: 'provisioning', priority: 200 } }
  })
  host.get(
    '/names',
    async () =>
      (await host.registry.catalog.list({ type: 'taskserv', source: 'oci' })).value.items.map(({ name }) => name)
  )
  await host.ready()
  const { catalog, version, health, ready } = host.registry

  t.strictSame((await host.inject('/names')).json(), ['k3s'])
  for (
    const [query, path] of [[undefined, ''], [{ limit: 2, offset: 1 }, '?limit=2&offset=1'], [{
      type: 'cluster' as const,
      source: undefined
    }, '?type=cluster']] as const
  ) {
    const { value, stale, missing } = await catalog.list(query)
    const response = await host.inject(`/registry/api/v1/extensions${path}`)
    t.strictSame(JSON.parse(JSON.stringify(value.items)), response.json(), path)
    t.equal(String(value.total), response.headers['x-total-count'], path)
    t.strictSame([stale, missing], [[], []])
  }
  matchStrictly(t, await catalog.search({ q: 'k3', limit: 1 }), { value: { items: [{ name: 'k3s' }] } })
  matchStrictly(t, await catalog.find({ type: 'provider', name: 'aws' }), {
    value: { version: '1.1.0', source: 'oci' },
    ttl: Number,
    age: Number
  })
  matchStrictly(t, (await catalog.versions({ type: 'provider', name: 'aws' })).value.map(({ version }) => version), [
    '1.1.0',
    '1.0.0'
  ])
  matchStrictly(t, (await host.inject('/registry/health')).json(), { version, backends: health().backends })
  t.equal(ready(), true)

  const changed = await catalog.find({ type: 'provider', name: 'aws' })
  changed.value.name = 'changed'
  changed.value.tags?.push('changed')
  const list = await catalog.list()
  list.value.items.forEach(item => { item.description = 'changed' })
  list.value.items.length = 0
  const versions = await catalog.versions({ type: 'provider', name: 'aws' })
  versions.value.forEach(version => { version.version = 'changed' })
  versions.value.length = 0
  const everything = await Promise.all(
    ['', '/provider/aws', '/provider/aws/versions'].map(async path =>
      (await host.inject(`/registry/api/v1/extensions${path}`)).body
    )
  )
  t.notMatch(everything.join('\n'), 'changed', 'values are copies')
  t.match(everything[2], /1\.1\.0.*1\.0\.0/)
})

await t.test('the catalog of the decorator rejects the same parameters as the API and ignores unknown ' +
  'parameters', async t => {
  const host = createHost(t)
  await host.register(globalRegistry, { config })
  const { catalog } = host.registry
  const cases: Array<[() => Promise<unknown>, object]> = [
    [() => catalog.find({ type: 'provider', name: 'none' }), { code: 'not_found', statusCode: 404 }],
    [() => catalog.find({ type: 'bogus' as never, name: 'aws' }), { code: 'invalid_type' }],
    [() => catalog.find({ type: 'provider', name: '../aws' }), { code: 'invalid_request' }],
    [() => catalog.find(undefined as never), { code: 'invalid_type' }],
    [() => catalog.versions({ type: 'constructor' as never, name: 'aws' }), { code: 'invalid_type' }],
    [() => catalog.list({ limit: 0 }), {
      code: 'invalid_request',
      message: 'Invalid catalog parameter limit: must be >= 1'
    }],
    [() => catalog.list({ limit: Infinity }), { code: 'invalid_request' }],
    [() => catalog.list({ offset: NaN }), { code: 'invalid_request' }],
    [() => catalog.list({ source: 'git' as never }), { code: 'invalid_request' }],
    [() => catalog.search({ q: '' }), { code: 'invalid_request' }],
    [() => catalog.search({} as never), { code: 'invalid_request' }]
  ]
  for (const [call, expected] of cases) {
    const error = await call().then(() => undefined, (error: unknown) => error)
    t.ok(error instanceof RegistryError, JSON.stringify(expected))
    matchStrictly(t, error, expected)
  }
  matchStrictly(t, await catalog.find({ type: 'provider', name: 'aws', maxAge: 0, deadline: 'x' } as never), {
    value: { name: 'aws' }
  }, 'undeclared parameters are ignored')
})

await t.test('an outage is reported in the result, and a call without cached data rejects', async t => {
  const gitea = await createGiteaFake(provisioningContent())
  await gitea.close()
  const host = createHost(t)
  await host.register(globalRegistry, {
    config: { ...config, gitea: { url: gitea.url, organization: 'provisioning', timeout_seconds: 1 } }
  })
  const { catalog } = host.registry
  const { value, missing } = await catalog.list()
  t.equal(value.total, 2)
  matchStrictly(t, missing, [{ instance: 'gitea', error: { code: 'service_unavailable' } }])
  await t.rejects(catalog.find({ type: 'cluster', name: 'unknown' }), { code: 'service_unavailable' })
})

await t.test('a second registration fails on the same host and succeeds in a separate scope', async t => {
  const host = createHost(t)
  await host.register(globalRegistry, { prefix: '/one', config })
  await t.rejects(async () => {
    await host.register(globalRegistry, { prefix: '/two', config })
  }, { code: 'FST_ERR_DEC_ALREADY_PRESENT', message: /registry/ })

  const parent = createHost(t)
  await parent.register(globalRegistry, { prefix: '/one', config })
  await parent.register(async scope => {
    await scope.register(globalRegistry, { prefix: '/two', config: {} })
    scope.get('/inner', async () => (await scope.registry.catalog.list()).value.total)
  }, { prefix: '/scope' })
  t.equal((await parent.inject('/scope/inner')).body, '0')
  t.equal((await parent.inject('/scope/two/api/v1/extensions')).body, '[]')
  t.equal((await parent.registry.catalog.list()).value.total, 2)
})

await t.test("while the host closes, the registry is not ready, and the host's own hooks can still use it", async t => {
  const host = Fastify()
  const seen: unknown[] = []
  host.addHook('onClose', async () => {
    seen.push('registered before', host.registry.ready(), (await host.registry.catalog.list()).value.total)
  })
  await host.register(globalRegistry, { config })
  host.addHook('onClose', async () => {
    seen.push('registered after', host.registry.ready(), (await host.registry.catalog.list()).value.total)
  })
  await host.ready()
  await host.registry.catalog.list()
  t.equal(host.registry.ready(), true)
  await host.close()
  t.strictSame(seen, ['registered after', false, 2, 'registered before', false, 2])
})

await t.test('the plugins can be registered on hosts of other protocols', async t => {
  const host = Fastify({ http2: true })
  t.teardown(async () => { await host.close() })
  await host.register(registry, { prefix: '/one', config })
  await host.register(globalRegistry, { prefix: '/two', config })
  for (const prefix of ['/one', '/two']) {
    t.equal((await host.inject(`${prefix}/api/v1/extensions`)).statusCode, 200, prefix)
  }
})

await t.test('the example of a host without encapsulation reads the catalog in one of its routes', async t => {
  const root = resolve(import.meta.dirname, '..')
  const folder = t.testdir({})
  cpSync(join(root, 'examples/registry'), join(folder, 'extensions'), { recursive: true })
  // The exports of the package refer to the build, so the hook resolves them to the sources.
  const sources: Record<string, string> = {
    'extension-registry': '../app.ts',
    'extension-registry/global': '../global.ts'
  }
  const hooks = registerHooks({
    resolve: (specifier, context, next) =>
      Object.hasOwn(sources, specifier)
        ? next(new URL(sources[specifier] ?? '', import.meta.url).href, context)
        : next(specifier, context)
  })
  const before = process.cwd()
  process.chdir(folder)
  t.teardown(() => {
    process.chdir(before)
    hooks.deregister()
  })
  const example = '../examples/host.ts'
  const { createHost } = await import(example) as { createHost: () => Promise<FastifyInstance> }
  const host = await createHost()
  t.teardown(async () => { await host.close() })
  const names = (await host.inject('/names')).json<string[]>()
  t.equal(names.length, 16)
  t.ok(names.includes('kubernetes'))
  t.equal((await host.inject('/registry/api/v1/extensions')).headers['x-total-count'], '16')
})
