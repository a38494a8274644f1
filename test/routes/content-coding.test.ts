import { setImmediate } from 'node:timers/promises'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import Fastify, { type LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'
import registry, { serverOptions } from '../../app.ts'
import { startApp } from '../fakes/app.ts'
import { matchStrictly } from '../fakes/match.ts'

// A busy machine delays the event loop.
const config = { oci: { registry: './examples/registry' }, server: { max_event_loop_delay_seconds: 0 } }
const decode = { br: brotliDecompressSync, gzip: gunzipSync }
type Coding = keyof typeof decode
const list = '/api/v1/extensions'
const small = '/api/v1/extensions?limit=1'

/** Repeats the request until its body has been compressed in the background. */
async function untilCoded (
  t: Test,
  get: (url: string, headers: Record<string, string>) => Promise<LightMyRequestResponse>,
  url: string,
  coding: Coding
): Promise<LightMyRequestResponse> {
  for (let turns = 0; turns < 10_000; turns++) {
    const response = await get(url, { 'accept-encoding': coding })
    if (response.headers['content-encoding'] !== undefined) return response
    await setImmediate()
  }
  return t.fail(`${url} is never sent in ${coding}`) as never
}

await t.test('a large body is sent in the preferred coding of the client, and each coding has an ETag of its ' +
  'own', async t => {
  const { app, get } = await startApp(t, config)
  const plain = await get(list)
  t.ok(plain.rawPayload.length >= 1024)
  matchStrictly(t, [plain.headers.vary, plain.headers['content-encoding']], ['Accept-Encoding', undefined])
  const first = await get(list, { 'accept-encoding': 'br' })
  matchStrictly(t, [first.headers['content-encoding'], first.headers.etag, first.body], [
    undefined,
    plain.headers.etag,
    plain.body
  ], 'the first request does not wait for the compression')

  for (const coding of ['br', 'gzip'] as const) {
    const { headers, rawPayload } = await untilCoded(t, get, list, coding)
    matchStrictly(t, headers, {
      'content-encoding': coding,
      vary: 'Accept-Encoding',
      'content-type': plain.headers['content-type'],
      'content-length': String(rawPayload.length)
    })
    t.equal(decode[coding](rawPayload).toString(), plain.body)
    t.ok(rawPayload.length < plain.rawPayload.length)
    t.not(headers.etag, plain.headers.etag)

    const head = await app.inject({ method: 'HEAD', url: list, headers: { 'accept-encoding': coding } })
    const { date, 'x-request-id': id, ...expected } = headers
    matchStrictly(t, head.headers, expected, 'HEAD has the same headers')
    t.equal(head.body, '')

    const again = await get(list, { 'accept-encoding': coding, 'if-none-match': String(headers.etag) })
    matchStrictly(t, [again.statusCode, again.headers.etag, again.headers.vary, again.body], [
      304,
      headers.etag,
      'Accept-Encoding',
      ''
    ])
    t.equal(again.headers['content-encoding'], undefined)
    const known = await get(list, { 'accept-encoding': coding, 'if-none-match': String(plain.headers.etag) })
    matchStrictly(
      t,
      [known.statusCode, known.headers.etag],
      [304, plain.headers.etag],
      'a client with the uncompressed body needs no other coding'
    )
    const other = coding === 'br' ? 'gzip' : 'br'
    t.equal(
      (await get(list, { 'accept-encoding': other, 'if-none-match': String(headers.etag) })).statusCode,
      200,
      'the body in a coding that the client no longer accepts does not match'
    )
  }
  const [br, gzip] = [await get(list, { 'accept-encoding': 'br' }), await get(list, { 'accept-encoding': 'gzip' })]
  t.not(br.headers.etag, gzip.headers.etag)
})

await t.test('the ETag of a coding from another replica matches before the body is compressed here', async t => {
  const [one, two] = [await startApp(t, config), await startApp(t, config)]
  const { headers: { etag } } = await untilCoded(t, one.get, list, 'br')
  t.equal((await two.get(list, { 'accept-encoding': 'br', 'if-none-match': String(etag) })).statusCode, 304)
})

await t.test('a coding that the client refuses is not sent', async t => {
  const { get } = await startApp(t, config)
  for (const coding of ['br', 'gzip'] as const) await untilCoded(t, get, list, coding)
  for (const accepted of ['identity', '*;q=0', 'br;q=0', 'br;q=0, gzip;q=0', 'deflate', '']) {
    const { headers, body } = await get(list, { 'accept-encoding': accepted })
    matchStrictly(t, [headers['content-encoding'], headers.vary], [undefined, 'Accept-Encoding'], accepted)
    t.ok(Array.isArray(JSON.parse(body)))
  }
  t.equal((await get(list, { 'accept-encoding': 'br;q=0, *' })).headers['content-encoding'], 'gzip')
})

await t.test('a small body is not compressed', async t => {
  const { get } = await startApp(t, config)
  for (let times = 0; times < 3; times++) {
    const { headers, rawPayload } = await get(small, { 'accept-encoding': 'br, gzip' })
    t.ok(rawPayload.length < 1024)
    matchStrictly(t, [headers['content-encoding'], headers.vary], [undefined, undefined])
    await setImmediate()
  }
})

await t.test('a compression hook of the host receives the coding of a compressed body', async t => {
  const host = Fastify({ ...serverOptions(), logger: false })
  t.teardown(async () => { await host.close() })
  const seen: unknown[] = []
  // Compression hooks skip a body with a content coding.
  host.addHook('onSend', async (_request, reply, payload) => {
    seen.push(reply.getHeader('content-encoding'))
    return payload
  })
  await host.register(registry, { prefix: '/registry', config: { ...config, store: { directory: t.testdir() } } })
  await host.ready()
  const get = async (url: string, headers: Record<string, string>) => await host.inject({ url, headers })
  const { rawPayload } = await untilCoded(t, get, `/registry${list}`, 'gzip')
  t.equal(seen.at(-1), 'gzip')
  t.ok(Array.isArray(JSON.parse(gunzipSync(rawPayload).toString())))
})
