import t from 'tap'
import { Agent, request } from 'node:http'
import { createLoopback } from './loopback.ts'
import type { IncomingMessage } from 'node:http'
import type { Test } from 'tap'
import type { Loopback, LoopbackResponse } from './loopback.ts'
import { matchStrictly } from './match.ts'

const reply: LoopbackResponse = { status: 200, headers: { 'content-type': 'text/plain' }, body: 'ten bytes!' }

async function start (test: Test): Promise<Loopback> {
  const server = await createLoopback(() => reply)
  test.teardown(() => server.close())
  return server
}

const agent = new Agent({ keepAlive: true })
t.teardown(() => agent.destroy())

/** Returns the head of a response; the caller reads the body. */
async function head (server: Loopback, path = '/', signal?: AbortSignal): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  request(`${server.url}${path}`, { agent, ...(signal === undefined ? {} : { signal }) }, resolve).once('error', reject)
    .end()
  return await promise
}

async function text (response: IncomingMessage): Promise<string> {
  return Buffer.concat(await response.toArray() as Buffer[]).toString()
}

await t.test('requests are recorded, and the response of the handler is sent', async (t) => {
  const server = await start(t)
  const response = await fetch(`${server.url}/a?b=c`, { method: 'POST', body: 'sent', headers: { 'x-one': '1' } })
  t.equal(await response.text(), 'ten bytes!')
  matchStrictly(t, server.requests, [{ method: 'POST', path: '/a?b=c', headers: { 'x-one': '1' }, body: 'sent' }])
  t.equal(server.count(/^\/a/), 1)
  t.equal(await server.requests[0]?.over, 'completed')
})

await t.test('an error of the handler is a 500 with the error as text', async (t) => {
  const server = await createLoopback(() => { throw new Error('not so') })
  t.teardown(() => server.close())
  const response = await head(server)
  t.equal(response.statusCode, 500)
  t.match(await text(response), /not so/)
})

await t.test('a stopped server refuses connections, and a restarted one has the same port', async (t) => {
  const server = await start(t)
  const { url } = server
  await server.stop()
  await server.stop()
  await t.rejects(head(server), { code: 'ECONNREFUSED' })
  await server.start()
  t.equal(server.url, url)
  t.equal((await head(server)).statusCode, 200)
})

await t.test('pending requests fail when the server stops', { timeout: 5000 }, async (t) => {
  const server = await start(t)
  server.fault = () => 'hang'
  const waiting = head(server)
  await server.arrived(/./)
  const dropped = t.rejects(waiting, { code: 'ECONNRESET' })
  await server.stop()
  await dropped
})

await t.test('each fault has its effect', { timeout: 5000 }, async (t) => {
  const server = await start(t)
  server.fault = () => 'refuse-reset'
  await t.rejects(head(server), { code: 'ECONNRESET' })

  server.fault = () => 'truncate'
  const cut = await head(server)
  t.equal(cut.headers['content-length'], '10')
  await t.rejects(text(cut), { code: 'ECONNRESET' })

  server.fault = () => 'drip'
  t.equal(await text(await head(server)), 'ten bytes!')

  server.fault = ({ path }) =>
    path === '/here' ? { status: 503, headers: { 'retry-after': '7' }, body: 'down' } : undefined
  t.equal((await head(server)).statusCode, 200)
  const down = await head(server, '/here')
  t.equal(down.headers['retry-after'], '7')
  t.equal(await text(down), 'down')
})

await t.test('a response hangs or stalls until the client disconnects', async (t) => {
  const server = await start(t)
  const hanging = new AbortController()
  server.fault = () => 'hang'
  const pending = head(server, '/hang', hanging.signal)
  const { over } = await server.arrived(/hang/)
  hanging.abort()
  await t.rejects(pending, { name: 'AbortError' })
  t.equal(await over, 'aborted')

  server.fault = () => 'stall'
  const stalled = await head(server, '/stall')
  const [first] = await new Promise<Buffer[]>((resolve) => {
    stalled.once('data', (chunk: Buffer) => resolve([chunk]))
  })
  t.equal(first?.toString(), 'ten b')
  stalled.destroy()
  t.equal(await server.requests.at(-1)?.over, 'aborted')
})

await t.test('an endless response continues until the client disconnects', async (t) => {
  const server = await start(t)
  server.fault = () => 'endless'
  const response = await head(server)
  t.notOk(response.headers['content-length'])
  let size = 0
  for await (const chunk of response) {
    size += (chunk as Buffer).length
    if (size > 1_000_000) break
  }
  t.equal(await server.requests[0]?.over, 'aborted')
})

await t.test('a response waits until the promise of its fault settles', async (t) => {
  const server = await start(t)
  const { promise, resolve } = Promise.withResolvers<undefined>()
  server.fault = () => promise
  const both = [head(server, '/same'), head(server, '/same')]
  await server.arrived(/same/, 2)
  resolve(undefined)
  t.strictSame((await Promise.all(both)).map(({ statusCode }) => statusCode), [200, 200])
})
