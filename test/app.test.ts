import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import t from 'tap'
import registry from '../app.ts'
import { createGiteaFake, provisioningContent } from './fakes/gitea.ts'
import { writeLayout } from './fakes/layout.ts'
import { hasLine, matchStrictly } from './fakes/match.ts'

await t.test('two registrations with different prefixes are independent and leave the host unchanged', async t => {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(root, [{ repository: 'provider/aws', tag: '1.0.0' }])
  const gitea = await createGiteaFake(provisioningContent())
  t.teardown(gitea.close)

  const host = Fastify()
  t.teardown(async () => { await host.close() })
  host.setErrorHandler(async (_error, _request, reply) => reply.code(418).send({ host: 'error' }))
  host.setNotFoundHandler(async (_request, reply) => reply.code(404).send({ host: 'not found' }))
  host.addHook('onRequest', async (_request, reply) => { reply.header('x-of-the-host', 'kept') })
  host.get('/fails', async () => { throw new Error('of the host') })
  await host.register(registry, { prefix: '/one', config: { oci: { registry: root } } })
  await host.register(registry, { prefix: '/two', config: { gitea: { url: gitea.url, organization: 'provisioning' } } })
  await host.ready()
  const get = async (url: string) => await host.inject({ url })

  matchStrictly(t, (await get('/one/api/v1/extensions')).json(), [{ name: 'aws', version: '1.0.0', source: 'oci' }])
  t.equal((await get('/two/api/v1/extensions')).headers['x-total-count'], '10')
  matchStrictly(t, (await get('/one/api/v1/extensions/plugin/x')).json(), { error: 'invalid_type' })
  matchStrictly(t, (await get('/one/nowhere')).json(), {
    error: 'not_found',
    message: 'Route GET /one/nowhere not found'
  })

  t.equal((await get('/one/api/v1/extensions/plugin/x')).headers['x-of-the-host'], 'kept')
  t.strictSame((await get('/fails')).json(), { host: 'error' }, 'the error handler of the host is in use')
  t.strictSame((await get('/nowhere')).json(), { host: 'not found' })
  for (const decorator of ['cache', 'catalog', 'gitea', 'oci', 'upstream', 'telemetry', 'health']) {
    t.notOk(host.hasDecorator(decorator), decorator)
  }

  const [one, two] = [(await get('/one/metrics')).body, (await get('/two/metrics')).body]
  hasLine(t, one, 'extensions_total{type="provider",source="oci"} 1')
  hasLine(t, two, 'extensions_total{type="provider",source="oci"} 0')
  hasLine(t, one, 'http_requests_total{method="GET",route="/one/api/v1/extensions",status="200"} 1')
  t.notMatch(one, '/two/', 'no shared state')
  matchStrictly(t, (await get('/one/openapi.json')).json(), { paths: { '/one/api/v1/extensions': {} } })
  t.notMatch((await get('/one/openapi.json')).body, '/two/')
  for (const [, link = ''] of (await get('/one/docs')).body.matchAll(/(?:href|src)="([^"]+)"/g)) {
    t.equal((await get(new URL(link, 'http://host/one/docs').pathname)).statusCode, 200, link)
  }
})

await t.test("the host's own OpenAPI document stays unchanged", async t => {
  const host = Fastify()
  t.teardown(async () => { await host.close() })
  const { default: swagger } = await import('@fastify/swagger')
  await host.register(swagger)
  await host.register(registry, { prefix: '/registry', config: {} })
  await host.ready()
  matchStrictly(t, (await host.inject({ url: '/registry/openapi.json' })).json(), {
    openapi: '3.1.0',
    info: { title: 'Extension registry' }
  })
  matchStrictly(t, host.swagger(), { info: { title: /fastify/i } })
})

await t.test('schemas, validators and serializers of the host and of the registry are independent', async t => {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(root, [{ repository: 'provider/aws', tag: '1.0.0' }])
  const host = Fastify({ ajv: { customOptions: { coerceTypes: false } } })
  t.teardown(async () => { await host.close() })
  host.addSchema({ $id: 'Extension', type: 'string' })
  host.addSchema({ $id: 'ErrorResponse', type: 'string' })
  host.setValidatorCompiler(() => () => ({ error: new Error('the host validates otherwise') }))
  host.setSerializerCompiler(() => () => '"serialized by the host"')
  await host.register(registry, { prefix: '/registry', config: { oci: { registry: root } } })
  matchStrictly(t, (await host.inject({ url: '/registry/api/v1/extensions?limit=1' })).json(), [{ name: 'aws' }])
  matchStrictly(t, (await host.inject({ url: '/registry/api/v1/extensions?limit=0' })).json(), {
    error: 'invalid_request'
  })
})

await t.test('a decorator name that the host uses stays available to the registry below its prefix', async t => {
  const host = Fastify()
  t.teardown(async () => { await host.close() })
  const mine = { of: 'the host' }
  host.decorate('cache', mine as never)
  await host.register(registry, { prefix: '/registry', config: {} })
  matchStrictly(t, (await host.inject({ url: '/registry/api/v1/cache/stats' })).json(), { total_entries: 0 })
  t.equal(host.cache, mine)
})

await t.test('an invalid configuration fails the registration with the name of the key', async t => {
  const host = Fastify()
  await t.rejects(async () => {
    await host.register(registry, { config: { gitea: { url: 'http://localhost' } as never } })
  }, { message: /gitea\[0\]\.organization/ })
})

for (const [kind, sent] of [
  ['is asynchronous', async (body: string): Promise<unknown> => {
    await sleep(5)
    return body
  }],
  ['makes a stream of the body', async (body: string): Promise<unknown> => Readable.from([body])]
] as const) {
  await t.test(`a host's onSend that ${kind} runs once for each response, asynchronous or not`, async t => {
    const gitea = await createGiteaFake(provisioningContent())
    t.teardown(gitea.close)
    const host = Fastify()
    t.teardown(async () => { await host.close() })
    const runs: string[] = []
    host.addHook('onSend', async (request, _reply, payload) => {
      runs.push(request.url)
      return await sent(String(payload))
    })
    await host.register(registry, { config: { gitea: { url: gitea.url, organization: 'provisioning' } } })
    const paths = ['', '/search?q=a', '/provider/aws', '/provider/aws/versions'].map(path =>
      `/api/v1/extensions${path}`
    )
    for (const path of [...paths, ...paths]) {
      const { statusCode, body } = await host.inject({ url: path })
      t.equal(statusCode, 200, path)
      t.ok(JSON.parse(body), 'the body is complete')
    }
    t.strictSame(runs, [...paths, ...paths])
  })
}
