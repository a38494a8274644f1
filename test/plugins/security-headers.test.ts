import helmet, { type FastifyHelmetOptions } from '@fastify/helmet'
import Fastify from 'fastify'
import t from 'tap'
import registry from '../../app.ts'
import { createSecurityHeaders } from '../../lib/common-headers.ts'
import { startApp } from '../fakes/app.ts'
import { matchStrictly } from '../fakes/match.ts'

const oci = { registry: 'examples/registry' }
const every = {
  'content-security-policy': "default-src 'none';frame-ancestors 'none'",
  'cross-origin-resource-policy': 'cross-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff'
}

await t.test('every response has the security headers, including errors and unknown routes', async t => {
  const { app, get } = await startApp(t, { oci })
  for (
    const [url, status] of [
      ['/api/v1/extensions', 200],
      ['/api/v1/extensions/provider/aws/latest', 302],
      ['/api/v1/extensions/provider/aws/1.2.0', 200],
      ['/api/v1/extensions/provider/none', 404],
      ['/api/v1/extensions/plugin/x', 400],
      ['/nowhere', 404],
      ['/health', 200],
      ['/metrics', 200],
      ['/openapi.yaml', 200]
    ] as const
  ) {
    const { statusCode, headers } = await get(url)
    t.equal(statusCode, status, url)
    matchStrictly(t, headers, every, url)
  }
  matchStrictly(t, (await app.inject({ method: 'POST', url: '/api/v1/extensions' })).headers, every, 'another method')
})

/** Returns the helmet options for exactly these headers; every header that only pages need is off. */
const helmetOptions = (resourcePolicy: 'cross-origin' | 'same-origin', https: boolean): FastifyHelmetOptions => ({
  contentSecurityPolicy: {
    useDefaults: false, directives: { 'default-src': ["'none'"], 'frame-ancestors': ["'none'"] }
  },
  crossOriginResourcePolicy: { policy: resourcePolicy },
  referrerPolicy: { policy: 'no-referrer' },
  xContentTypeOptions: true,
  strictTransportSecurity: https ? { maxAge: 31_536_000, includeSubDomains: false } : false,
  crossOriginEmbedderPolicy: false,
  crossOriginOpenerPolicy: false,
  originAgentCluster: false,
  xDnsPrefetchControl: false,
  xDownloadOptions: false,
  xFrameOptions: false,
  xPermittedCrossDomainPolicies: false,
  xPoweredBy: false,
  xXssProtection: false
})

await t.test('names, values and order of the headers are the same as with helmet', async t => {
  for (const [origins, resourcePolicy] of [
    [['*'], 'cross-origin'], [['https://portal.example.com'], 'same-origin'], [[], 'same-origin']
  ] as const) {
    for (const url of [undefined, 'http://registry.example.com', 'https://registry.example.com']) {
      const peer = Fastify()
      t.teardown(async () => { await peer.close() })
      await peer.register(helmet, helmetOptions(resourcePolicy, url?.startsWith('https://') === true))
      peer.get('/', async (_request, reply) => reply.getHeaders())
      const expected: object = (await peer.inject('/')).json()
      const headers = createSecurityHeaders({ cors_origins: origins, ...(url !== undefined && { public_url: url }) })
      t.ok(Object.keys(expected).length >= 4, 'helmet sets them')
      t.strictSame(Object.entries(headers), Object.entries(expected), `${resourcePolicy} ${url}`)
    }
  }
})

await t.test('pages of other origins may use the responses only if every origin may read them', async t => {
  for (const origins of [['*'], ['https://portal.example.com'], []]) {
    const headers = createSecurityHeaders({ cors_origins: origins })
    const expected = origins.includes('*') ? 'cross-origin' : 'same-origin'
    t.equal(headers['cross-origin-resource-policy'], expected, origins.join())
  }
})

await t.test('Strict-Transport-Security is sent only if public_url is https', async t => {
  const headersOf = (url?: string) =>
    createSecurityHeaders({ cors_origins: [], ...(url !== undefined && { public_url: url }) })
  const of = (url?: string) => headersOf(url)['strict-transport-security']
  t.equal(of(), undefined)
  t.equal(of('http://registry.example.com'), undefined)
  t.equal(of('https://registry.example.com'), 'max-age=31536000', 'for this host without its subdomains')
})

await t.test('Swagger UI has its own content security policy and the other headers', async t => {
  const { get } = await startApp(t, { oci })
  for (const url of ['/docs', '/docs/static/swagger-ui-bundle.js']) {
    const { statusCode, headers } = await get(url)
    t.equal(statusCode, 200, url)
    t.match(headers['content-security-policy'], /^default-src 'self'; .*frame-ancestors 'self'/)
    matchStrictly(t, headers, { 'referrer-policy': 'no-referrer', 'x-content-type-options': 'nosniff' })
  }
})

await t.test('a host with helmet keeps its headers, and the routes of the registry have their own', async t => {
  const host = Fastify()
  t.teardown(async () => { await host.close() })
  await host.register(helmet, { enableCSPNonces: true })
  host.get('/', async () => 'the host')
  await host.register(registry, { prefix: '/one', config: { oci } })
  await host.register(registry, { prefix: '/two', config: { oci, server: { cors_origins: [] } } })
  t.match((await host.inject('/')).headers['content-security-policy'], /nonce/)
  matchStrictly(t, (await host.inject('/one/health')).headers, every)
  matchStrictly(t, (await host.inject('/two/nowhere')).headers, {
    ...every,
    'cross-origin-resource-policy': 'same-origin'
  })
})

await t.test('responses without hooks have the security headers', async t => {
  const { get } = await startApp(t, { oci })
  for (const url of ['/api/v1/extensions/provider/%', `/api/v1/extensions/provider/${'x'.repeat(600)}`]) {
    const { statusCode, headers } = await get(url)
    t.equal(statusCode, 400, url.slice(0, 40))
    matchStrictly(t, headers, { ...every, 'access-control-allow-origin': '*' })
  }
})
