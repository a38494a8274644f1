import cors from '@fastify/cors'
import Fastify from 'fastify'
import t from 'tap'
import registry from '../../app.ts'
import { exposedHeaders } from '../../schemas/responses.ts'
import { startApp } from '../fakes/app.ts'
import { matchStrictly } from '../fakes/match.ts'

const oci = { registry: 'examples/registry' }
const preflight = { origin: 'https://portal.example.com', 'access-control-request-method': 'GET' }
const words = (header: unknown): string[] => String(header).split(',').map(word => word.trim().toLowerCase())

await t.test('a page of any origin may read every response and its headers, without credentials', async t => {
  const { get } = await startApp(t, { oci, server: { public_url: 'http://localhost' } })
  for (
    const [url, status] of [
      ['/api/v1/extensions?limit=1', 200],
      ['/api/v1/extensions/provider/aws/1.2.0', 200],
      ['/api/v1/extensions/plugin/x', 400],
      ['/api/v1/nowhere', 404],
      ['/health', 200],
      ['/openapi.yaml', 200]
    ] as const
  ) {
    const { statusCode, headers } = await get(url, { origin: 'https://portal.example.com' })
    t.equal(statusCode, status, url)
    t.equal(headers['access-control-allow-origin'], '*', url)
    t.equal(headers['access-control-allow-credentials'], undefined, url)
    t.equal(headers.vary, undefined, 'the response is the same for every client')
    t.equal(headers['access-control-expose-headers'], '*', url)
    // A shared cache may send the response to a request without `Origin` to a browser.
    const plain = await get(url)
    t.equal(plain.headers['access-control-allow-origin'], '*', url)
    t.equal(plain.headers['access-control-expose-headers'], '*', url)
  }
})

await t.test('the headers of clients are the documented headers, except those that only browsers use', async t => {
  const { get } = await startApp(t, {})
  const { headers } =
    (await get('/openapi.json')).json<{ components: { headers: Record<string, unknown> } }>().components
  t.strictSame(
    [...exposedHeaders].sort(),
    Object.keys(headers).filter(name =>
      !/^(Access-Control-|Content-Encoding|Content-Security-|Cross-Origin-|Strict-Transport-|Referrer-Policy|Vary)/
        .test(name)
    ).sort()
  )
  const ofTheDesign = [
    'X-Total-Count',
    'Link',
    'ETag',
    'Cache-Control',
    'X-Cache-Hit',
    'X-Cache-TTL',
    'Cache-Status',
    'Age',
    'X-Partial',
    'Proxy-Status',
    'Content-Length',
    'Content-Disposition',
    'X-Content-Type-Options',
    'Repr-Digest',
    'Location',
    'Retry-After',
    'RateLimit',
    'RateLimit-Policy',
    'X-Request-Id'
  ]
  for (const name of ofTheDesign) t.ok(exposedHeaders.includes(name), name)
})

await t.test('a preflight gets a response that permits reading, with the headers that a client may send', async t => {
  const { app } = await startApp(t, { oci })
  for (const url of ['/api/v1/extensions', '/api/v1/extensions/provider/aws/1.2.0', '/openapi.json']) {
    const { statusCode, headers, body } = await app.inject({
      method: 'OPTIONS',
      url,
      headers: { ...preflight, 'access-control-request-headers': 'if-none-match,range,x-request-id' }
    })
    t.equal(statusCode, 204, url)
    t.equal(body, '')
    t.equal(headers['access-control-allow-origin'], '*')
    t.strictSame(words(headers['access-control-allow-methods']), ['get', 'head'])
    for (const name of ['if-match', 'if-none-match', 'if-range', 'if-unmodified-since', 'range', 'x-request-id']) {
      t.ok(words(headers['access-control-allow-headers']).includes(name), name)
    }
    t.ok(Number(headers['access-control-max-age']) > 0)
  }
})

await t.test('an OPTIONS request that is not a preflight gets 405', async t => {
  const { app } = await startApp(t, { oci })
  for (const headers of [{}, { origin: 'https://portal.example.com' }]) {
    const response = await app.inject({ method: 'OPTIONS', url: '/api/v1/extensions', headers })
    t.equal(response.statusCode, 405)
    t.equal(response.headers.allow, 'GET, HEAD')
    matchStrictly(t, response.json(), {
      error: 'method_not_allowed',
      message: 'Method OPTIONS is not allowed for /api/v1/extensions: use GET or HEAD'
    })
  }
})

await t.test('with a list only its origins may read, and responses vary by Origin', async t => {
  const { app, get } = await startApp(t, {
    oci,
    server: { cors_origins: ['https://portal.example.com', 'http://localhost:3000'] }
  })
  for (
    const [origin, allowed] of [
      ['https://portal.example.com', true],
      ['http://localhost:3000', true],
      ['https://evil.example', false],
      ['https://portal.example.com.evil.example', false],
      ['null', false]
    ] as const
  ) {
    const { headers } = await get('/api/v1/extensions', { origin })
    t.equal(headers['access-control-allow-origin'], allowed ? origin : undefined, origin)
    t.equal(headers.vary, 'Origin, Accept-Encoding', origin)
    const response = await app.inject({
      method: 'OPTIONS',
      url: '/api/v1/extensions',
      headers: { ...preflight, origin }
    })
    t.equal(response.headers['access-control-allow-origin'], allowed ? origin : undefined, `preflight of ${origin}`)
  }
  t.equal((await get('/api/v1/extensions')).headers.vary, 'Origin, Accept-Encoding', 'without an origin')
  t.equal((await get('/api/v1/extensions/plugin/x')).headers.vary, 'Origin', 'on an error')
})

await t.test('an empty list of origins turns CORS off', async t => {
  const { app, get } = await startApp(t, { oci, server: { cors_origins: [] } })
  const { headers } = await get('/api/v1/extensions', { origin: 'https://portal.example.com' })
  t.strictSame(Object.keys(headers).filter(name => name.startsWith('access-control-')), [])
  t.equal(headers.vary, 'Accept-Encoding')
  t.equal((await app.inject({ method: 'OPTIONS', url: '/api/v1/extensions', headers: preflight })).statusCode, 405)
})

await t.test('a registry responds below its prefix, and the CORS policy of its host replaces its own', async t => {
  const bare = Fastify()
  t.teardown(async () => { await bare.close() })
  await bare.register(registry, { prefix: '/one', config: { oci } })
  await bare.register(registry, {
    prefix: '/two',
    config: { oci, server: { cors_origins: ['https://portal.example.com'] } }
  })
  t.equal(
    (await bare.inject({ method: 'OPTIONS', url: '/one/api/v1/extensions', headers: preflight }))
      .headers['access-control-allow-origin'],
    '*'
  )
  t.equal(
    (await bare.inject({ method: 'OPTIONS', url: '/two/api/v1/extensions', headers: preflight }))
      .headers['access-control-allow-origin'],
    'https://portal.example.com'
  )
  t.equal((await bare.inject({ method: 'OPTIONS', url: '/elsewhere', headers: preflight })).statusCode, 404)

  const host = Fastify()
  t.teardown(async () => { await host.close() })
  await host.register(cors, { origin: ['https://host.example.com'] })
  await host.register(registry, { prefix: '/one', config: { oci } })
  await host.register(registry, { prefix: '/two', config: { oci } })
  for (const prefix of ['/one', '/two']) {
    const of = async (origin: string) =>
      (await host.inject({ url: `${prefix}/api/v1/extensions`, headers: { origin } }))
        .headers['access-control-allow-origin']
    t.equal(await of('https://host.example.com'), 'https://host.example.com')
    t.equal(await of('https://portal.example.com'), undefined, 'the policy of the host is not extended')
  }
})

/** Paths outside the registry, whose prefix is `/registry`. */
const others = [
  '/registry-admin/secret',
  '/registryx',
  '/registry.json',
  '/registry%2d',
  '/registry%2fapi',
  '/regis',
  '/REGISTRY/api/v1/extensions',
  '//registry/api/v1/extensions',
  '/own/registry/api/v1/extensions',
  '/own',
  '/',
  '*'
]

for (const origins of [['*'], ['https://portal.example.com']]) {
  await t.test('a preflight for a path of the host is handled by the host; cors_origins = ' +
    `${JSON.stringify(origins)}`, async t => {
    const config = { oci, server: { cors_origins: origins } }
    const host = Fastify()
    t.teardown(async () => { await host.close() })
    host.get('/registry-admin/secret', async () => 'secret')
    host.get('/own', async () => 'own')
    host.delete('/registry-admin/*', async () => 'secret')
    await host.register(registry, { prefix: '/registry', config })
    await host.register(registry, { prefix: '/one', config })
    await host.register(registry, { prefix: '/one-two', config })
    await host.ready()
    const options = async (url: string) => await host.inject({ method: 'OPTIONS', url, headers: preflight })
    for (const url of others) {
      const { statusCode, headers } = await options(url)
      t.equal(statusCode, 404, url)
      t.strictSame(Object.keys(headers).filter(name => name.startsWith('access-control-')), [], url)
    }
    for (
      const url of [
        '/registry/health',
        '/registry/%68ealth',
        '/one/api/v1/extensions',
        '/one-two/api/v1/extensions',
        '/registry/docs',
        '/registry/docs/',
        '/registry/docs/static/index.css',
        '/one-two/api/v1/extensions/provider/aws/latest?source=oci'
      ]
    ) {
      const { statusCode, headers } = await options(url)
      t.equal(statusCode, 204, url)
      t.equal(headers['access-control-allow-origin'], origins[0], url)
    }
    // Only a preflight for an existing route gets a response.
    for (const url of ['/registry', '/registry/', '/registry/nowhere', '/one/one-two/health', '/registry/health/']) {
      t.equal((await options(url)).statusCode, 404, url)
    }
  })

  await t.test('without a prefix a preflight for a path of the host is handled by the host; cors_origins = ' +
    `${JSON.stringify(origins)}`, async t => {
    const host = Fastify()
    t.teardown(async () => { await host.close() })
    host.get('/secret', async () => 'secret')
    await host.register(registry, { config: { oci, server: { cors_origins: origins } } })
    // The host may register its policy later: neither a wildcard nor a route of the host conflicts with the registry.
    host.options('/later/*', async (_request, reply) => await reply.code(299).send())
    const options = async (url: string) => await host.inject({ method: 'OPTIONS', url, headers: preflight })
    t.strictSame([
      (await options('/secret')).statusCode,
      (await options('/secret')).headers['access-control-allow-origin']
    ], [404, undefined])
    t.equal((await options('/later/x')).statusCode, 299)
    t.equal((await options('/api/v1/extensions')).statusCode, 204)
    t.equal((await host.inject({ method: 'OPTIONS', url: '/api/v1/extensions' })).statusCode, 405)
  })

  await t.test('a wildcard route of the host handles every path outside the registry; cors_origins = ' +
    `${JSON.stringify(origins)}`, async t => {
    const host = Fastify()
    t.teardown(async () => { await host.close() })
    host.all('/*', async (_request, reply) => await reply.code(299).send('wild'))
    await host.register(registry, { prefix: '/registry', config: { oci, server: { cors_origins: origins } } })
    for (const url of [...others.filter(url => url !== '*'), '/registry', '/registry/nowhere']) {
      const { statusCode, headers } = await host.inject({ method: 'OPTIONS', url, headers: preflight })
      t.strictSame([statusCode, headers['access-control-allow-origin']], [299, undefined], url)
    }
    t.equal((await host.inject({ method: 'OPTIONS', url: '/registry/health', headers: preflight })).statusCode, 204)
  })
}
