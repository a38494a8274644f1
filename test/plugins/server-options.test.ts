import Fastify from 'fastify'
import fp from 'fastify-plugin'
import t from 'tap'
import registry, { serverOptions } from '../../app.ts'
import errors from '../../plugins/errors.ts'

await t.test('a request is one line in the log, a probe at debug, a malformed one as well', async t => {
  const lines: Array<{ level: number, url?: string, status?: number, reqId?: string }> = []
  const app = Fastify({ ...serverOptions(), logger: { level: 'debug', stream: { write: line => { lines.push(JSON.parse(line) as typeof lines[number]) } } } })
  t.teardown(async () => { await app.close() })
  await app.register(fp(registry), { config: {} })
  await app.ready()
  const of = async (url: string) => {
    lines.length = 0
    await app.inject({ url, headers: { 'x-request-id': 'mine' } })
    return lines.filter(line => line.url !== undefined)
  }
  t.match(await of('/api/v1/extensions'), [{ level: 30, url: '/api/v1/extensions', status: 200, reqId: 'mine' }])
  for (const probe of ['/health', '/livez', '/metrics', '/api/v1/health']) t.match(await of(probe), [{ level: 20, url: probe, status: 200 }], probe)
  t.match(await of('/%zz'), [{ level: 30, url: '/%zz', status: 400 }])
  for (const url of ['/api/v1/extensions', '/livez', '/%zz']) t.equal((await of(url)).length, 1, url)
})

await t.test("a proxy's word about the client counts only where it is trusted", async t => {
  for (const trusted of [false, true]) {
    const app = Fastify({ ...serverOptions({ server: { trust_proxy: trusted } }), logger: false })
    t.teardown(async () => { await app.close() })
    app.get('/ip', async request => request.ip)
    t.equal((await app.inject({ url: '/ip', headers: { 'x-forwarded-for': '203.0.113.7' } })).body, trusted ? '203.0.113.7' : '127.0.0.1')
  }
})

await t.test('a bug is logged with its cause', async t => {
  const lines: string[] = []
  const app = Fastify({ ...serverOptions(), logger: { level: 'info', stream: { write: line => { lines.push(line) } } } })
  t.teardown(async () => { await app.close() })
  await app.register(errors)
  app.get('/bug', async () => { throw new Error('the reason') })
  await app.inject({ url: '/bug' })
  t.equal(lines.filter(line => line.includes('the reason') && line.includes('"level":50')).length, 1)
})
