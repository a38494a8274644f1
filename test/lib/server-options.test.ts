import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import t from 'tap'
import registry, { serverOptions } from '../../app.ts'
import errors from '../../plugins/errors.ts'
import { matchStrictly } from '../fakes/match.ts'

await t.test('a request is logged in one line, at debug level for probes, even if it is malformed', async t => {
  const lines: Array<{ level: number, url?: string, status?: number, reqId?: string }> = []
  const app = Fastify({
    ...serverOptions(),
    logger: {
      level: 'debug',
      stream: {
        write: line => {
          lines.push(JSON.parse(line) as typeof lines[number])
        }
      }
    }
  })
  t.teardown(async () => {
    await app.close()
  })
  await app.register(fp(registry), { config: {} })
  await app.ready()
  const of = async (url: string) => {
    lines.length = 0
    await app.inject({ url, headers: { 'x-request-id': 'mine' } })
    return lines.filter(line => line.url !== undefined)
  }
  matchStrictly(t, await of('/api/v1/extensions'), [{
    level: 30,
    url: '/api/v1/extensions',
    status: 200,
    reqId: 'mine'
  }])
  for (const probe of ['/health', '/livez', '/metrics', '/api/v1/health']) {
    matchStrictly(t, await of(probe), [{ level: 20, url: probe, status: 200 }], probe)
  }
  matchStrictly(t, await of('/%zz'), [{ level: 30, url: '/%zz', status: 400 }])
  for (const url of ['/api/v1/extensions', '/livez', '/%zz']) t.equal((await of(url)).length, 1, url)
})

await t.test('forwarded headers of a proxy apply only if trust_proxy is set', async t => {
  for (const trusted of [false, true]) {
    const app = Fastify({ ...serverOptions({ server: { trust_proxy: trusted } }), logger: false })
    t.teardown(async () => { await app.close() })
    app.get('/ip', async request => request.ip)
    t.equal(
      (await app.inject({ url: '/ip', headers: { 'x-forwarded-for': '203.0.113.7' } })).body,
      trusted ? '203.0.113.7' : '127.0.0.1'
    )
  }
})

await t.test('an unexpected error is logged with its cause', async t => {
  const lines: string[] = []
  const app = Fastify({
    ...serverOptions(),
    logger: {
      level: 'info',
      stream: {
        write: line => {
          lines.push(line)
        }
      }
    }
  })
  t.teardown(async () => {
    await app.close()
  })
  await app.register(errors)
  app.get('/bug', async () => { throw new Error('the reason') })
  await app.inject({ url: '/bug' })
  t.equal(lines.filter(line => line.includes('the reason') && line.includes('"level":50')).length, 1)
})

await t.test('a request that arrives too slowly is refused in the envelope; a connection without bytes is ' +
  'closed', async t => {
  const app = Fastify({
    ...serverOptions(),
    logger: false,
    requestTimeout: 200,
    http: { headersTimeout: 100, requestTimeout: 200, connectionsCheckingInterval: 20 }
  })
  t.teardown(async () => {
    await app.close()
  })
  const port = Number(new URL(await app.listen({ host: '127.0.0.1', port: 0 })).port)
  const described = async (start: string): Promise<string> => {
    const client = connect(port, '127.0.0.1')
    if (start !== '') client.write(start)
    return await text(client)
  }
  const response = await described('GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow')
  t.match(response, /^HTTP\/1\.1 400 Bad Request\r\n/)
  t.match(response, '{"error":"invalid_request","message":"Request took too long to arrive"}')
  t.equal(await described(''), '')
})

await t.test('routes of the host receive the errors of Fastify for an empty body and the abort event of ' +
  'a closed connection', async t => {
  const app = Fastify({ ...serverOptions(), logger: false })
  t.teardown(async () => { await app.close() })
  const gone = new Promise<void>(resolve => {
    app.addHook('onRequestAbort', (_request, done) => {
      resolve()
      done()
    })
  })
  app.post('/own', async () => ({}))
  app.get('/slow', async () => { await gone })
  const port = Number(new URL(await app.listen({ host: '127.0.0.1', port: 0 })).port)
  const poster = connect(port, '127.0.0.1')
  poster.setTimeout(5000, () => { poster.destroy() })
  poster.write('POST /own HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n')
  t.match(await text(poster), /^HTTP\/1\.1 400 [^]*FST_ERR_CTP_EMPTY_JSON_BODY/)
  const requested = new Promise<void>(resolve => { app.server.once('request', () => { resolve() }) })
  const client = connect(port, '127.0.0.1')
  client.write('GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await requested
  client.destroy()
  await gone
})

await t.test('requests have a limit for header time, header size and idle time', async t => {
  const limits = async (settings: Parameters<typeof serverOptions>[0]) => {
    const app = Fastify({ ...serverOptions(settings), logger: false })
    t.teardown(async () => { await app.close() })
    const { headersTimeout, requestTimeout, timeout, keepAliveTimeout } = app.server
    return { headersTimeout, requestTimeout, timeout, keepAliveTimeout }
  }
  t.strictSame(await limits({}), {
    headersTimeout: 15_000,
    requestTimeout: 30_000,
    timeout: 120_000,
    keepAliveTimeout: 72_000
  })
  t.equal(
    (await limits({ oci: [{ timeout_seconds: 300 }, {}] })).timeout,
    600_000,
    'the idle timeout is longer than the timeout of an upstream'
  )
  t.equal((await limits({ server: { request_budget_seconds: 100 } })).timeout, 200_000)

  const app = Fastify({ ...serverOptions(), logger: false })
  t.teardown(async () => { await app.close() })
  const address = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
  const client = connect(Number(address.port), '127.0.0.1')
  client.write(`GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ${'x'.repeat(20_000)}\r\n\r\n`)
  t.match(await text(client), /Request headers are too large/)
})
