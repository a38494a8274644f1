import { METHODS } from 'node:http'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import registry, { serverOptions } from '../../../app.ts'
import { unknownRoutes } from '../../../plugins/errors.ts'
import { whole } from '../../fakes/app.ts'
import { matchStrictly } from '../../fakes/match.ts'

const oci = { registry: 'examples/registry' }
const server = { max_event_loop_delay_seconds: 0 }

interface Served { url: string, methods: Set<string> }

/** Records the routes that are registered from now on: methods by pattern, without preflights. */
function watchRoutes (app: FastifyInstance): Map<string, Served> {
  const routes = new Map<string, Served>()
  app.addHook('onRoute', ({ method, url }) => {
    const served = routes.get(url) ?? { url, methods: new Set<string>() }
    for (const one of [method].flat()) if (one !== 'OPTIONS') served.methods.add(one)
    routes.set(url, served)
  })
  return routes
}

const samples: Record<string, string> = { ':type': 'provider', ':name': 'aws', ':version': '1.2.0', '*': 'index.css' }
/** Returns a path that matches the pattern. */
const pathOf = (pattern: string): string => pattern.split('/').map(part => samples[part] ?? part).join('/')

/** Starts the registry as `server.ts` registers it. */
async function start (t: Test, config: object = { oci, server }) {
  const app = Fastify({ ...serverOptions(), logger: false })
  t.teardown(async () => { await app.close() })
  const routes = watchRoutes(app)
  await app.register(whole, { config })
  await app.register(unknownRoutes)
  await app.ready()
  // Fastify does not report the URL with a trailing slash for a route `/` below a prefix.
  for (const { url, methods } of routes.values()) if (app.hasRoute({ method: 'GET', url })) methods.add('GET')
  return { app, routes }
}

/** Methods that reach a request handler; CONNECT has its own event. */
const methods = METHODS.filter(method => method !== 'CONNECT') as Array<'GET'>

for (
  const [what, config] of [['', { oci, server }], [' without CORS', { oci, server: { ...server, cors_origins: [] } }], [
    ' with a list of origins',
    { oci, server: { ...server, cors_origins: ['https://a.example'] } }
  ]] as const
) {
  await t.test('each route responds with 405, Allow and the envelope to every method that it does not ' +
    `serve${what}`, async t => {
    const { app, routes } = await start(t, config)
    t.ok(routes.size > 20, `${routes.size} routes`)
    for (const { url, methods: served } of routes.values()) {
      const path = pathOf(url)
      for (const method of methods) {
        const response = await app.inject({ method, url: `${path}?limit=1` })
        const where = `${method} ${path}`
        if (served.has(method)) {
          if (response.statusCode === 405) t.fail(where)
          continue
        }
        const observed = {
          status: response.statusCode,
          allow: response.headers.allow,
          cache: response.headers['cache-control'],
          type: response.headers['x-content-type-options'],
          id: typeof response.headers['x-request-id']
        }
        t.strictSame(observed, {
          status: 405,
          allow: ['GET', 'HEAD'].filter(one => served.has(one)).join(', '),
          cache: 'no-store',
          type: 'nosniff',
          id: 'string'
        }, where)
        matchStrictly(t, response.json(), {
          error: 'method_not_allowed',
          message: `Method ${method} is not allowed for ${path}: use GET or HEAD`
        }, where)
      }
    }
  })
}

await t.test('an unknown path is 404 for every method', async t => {
  const { app } = await start(t)
  for (
    const url of [
      '/nowhere',
      '/api/v1',
      '/api/v1/extensions/provider/aws/1.2.0/more',
      '/healthz',
      '/API/v1/extensions',
      '/api/v1/extensions/'
    ]
  ) {
    for (const method of methods) {
      const response = await app.inject({ method, url })
      t.strictSame([response.statusCode, response.headers.allow], [404, undefined], `${method} ${url}`)
    }
  }
  t.equal((await app.inject({ url: '/docs/static/nothing.js' })).statusCode, 404, 'a file that does not exist')
})

await t.test('another spelling of a path has the same methods', async t => {
  const { app } = await start(t)
  for (
    const url of [
      '/api/v1/%65xtensions',
      '/api/v1/extensions?x=y',
      '/api/v1/extensions/%70rovider/aws',
      '/docs/',
      `/api/v1/extensions/provider/${'x'.repeat(400)}`
    ]
  ) {
    const response = await app.inject({ method: 'DELETE', url })
    t.strictSame([response.statusCode, response.headers.allow], [405, 'GET, HEAD'], url)
  }
})

await t.test('a body is not read, for any content type', async t => {
  const host = Fastify()
  t.teardown(async () => { await host.close() })
  await host.register(registry, { prefix: '/registry', config: { oci, server } })
  for (const app of [(await start(t)).app, host]) {
    const prefix = app === host ? '/registry' : ''
    for (const type of ['application/json', 'text/plain', 'application/x-www-form-urlencoded', 'not a type', '']) {
      for (const method of ['POST', 'PUT', 'QUERY', 'DELETE'] as const) {
        const response = await app.inject({
          method,
          url: `${prefix}/api/v1/extensions`,
          payload: '{',
          headers: type === '' ? {} : { 'content-type': type }
        })
        t.strictSame([response.statusCode, response.headers.allow], [405, 'GET, HEAD'], `${prefix} ${method} ${type}`)
      }
    }
  }
})

await t.test('HEAD is not allowed if the host has no HEAD routes', async t => {
  const host = Fastify({ exposeHeadRoutes: false })
  t.teardown(async () => { await host.close() })
  await host.register(registry, { prefix: '/registry', config: { oci, server } })
  for (
    const [url, allow] of [['/registry/health', 'GET'], ['/registry/docs', 'GET'], ['/registry/docs/', 'GET'], [
      '/registry/api/v1/extensions/provider/aws/1.2.0',
      'GET, HEAD'
    ]] as const
  ) {
    const response = await host.inject({ method: 'PATCH', url })
    t.strictSame([response.statusCode, response.headers.allow], [405, allow], url)
    t.equal((await host.inject({ method: 'HEAD', url })).statusCode, allow === 'GET' ? 405 : 200, url)
  }
})

await t.test('an embedded registry responds 405 only for its own paths, and never without a prefix', async t => {
  const host = Fastify()
  t.teardown(async () => { await host.close() })
  host.get('/own', async () => 'own')
  host.get('/registry-admin/secret', async () => 'secret')
  await host.register(registry, { prefix: '/registry', config: { oci, server } })
  for (
    const [url, status] of [
      ['/registry/api/v1/extensions', 405],
      ['/registry/health', 405],
      ['/registry/docs', 405],
      ['/registry/nowhere', 404],
      ['/own', 404],
      ['/registry-admin/secret', 404],
      ['/nowhere', 404]
    ] as const
  ) {
    for (const method of ['POST', 'TRACE', 'OPTIONS', 'PROPFIND'] as Array<'POST'>) {
      const response = await host.inject({ method, url })
      t.equal(response.statusCode, status, `${method} ${url}`)
      t.equal(response.headers['x-request-id'] !== undefined, url.startsWith('/registry/'), `${method} ${url}`)
    }
  }
  const bare = Fastify()
  t.teardown(async () => { await bare.close() })
  bare.setNotFoundHandler((_request, reply) => { void reply.code(418).send("the host's") })
  await bare.register(registry, { config: { oci, server } })
  // The host may add a method to the path of a route.
  bare.post('/api/v1/extensions', async () => "the host's")
  t.equal((await bare.inject({ method: 'POST', url: '/api/v1/extensions' })).body, "the host's")
  t.equal((await bare.inject({ method: 'PUT', url: '/api/v1/extensions' })).statusCode, 418)
})

for (const order of ['before', 'after']) {
  await t.test('in a scope of the host and without its own prefix, the scope handles unknown paths; its ' +
    `handler is set ${order} the registration`, async t => {
    const host = Fastify()
    t.teardown(async () => { await host.close() })
    await host.register(async scope => {
      const handle = () => {
        scope.setNotFoundHandler((_request, reply) => {
          void reply.code(418).send("the scope's")
        })
      }
      if (order === 'before') handle()
      await scope.register(registry, { config: { oci, server } })
      if (order === 'after') handle()
      scope.get('/own', async () => 'own')
      await scope.register(registry, { prefix: 'inner/', config: { oci, server } })
    }, { prefix: '/scope' })
    for (const url of ['/scope/nowhere', '/scope/own', '/scope/health']) {
      t.equal((await host.inject({ method: 'POST', url })).body, "the scope's", url)
    }
    t.equal((await host.inject('/scope/health')).statusCode, 200)
    t.equal(
      (await host.inject({ method: 'POST', url: '/scope/inner/health' })).headers.allow,
      'GET, HEAD',
      'a separate prefix'
    )
  })
}
