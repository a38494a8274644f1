import { createServer, get, type IncomingMessage } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { createUpstream } from '../../../plugins/upstream/client.ts'

await t.test('the HTTP parser of Node.js 24 copies a body, so the memory of its connection can be freed', async t => {
  if (!process.version.startsWith('v24.')) {
    t.pass('other releases free no memory of connections')
    return
  }
  const body = Buffer.alloc(4 * 1024 * 1024, 'body')
  const server = createServer((_request, response) => { response.end(body) }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const [response] = await once(
    get({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' }),
    'response'
  ) as [IncomingMessage]
  const received = new Set<ArrayBufferLike>()
  response.socket.on('data', ({ buffer }: Buffer) => { received.add(buffer) })
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  t.ok(received.size > 10, 'the body arrives in many chunks')
  t.notOk(chunks.some(({ buffer }) => received.has(buffer)), 'no chunk shares memory with the connection')
  t.ok(Buffer.concat(chunks).equals(body))
})

await t.test('a paused download does not disturb the next request on its connection', async t => {
  const connections = new Set<unknown>()
  const server = createServer((request, response) => {
    connections.add(request.socket)
    response.end(Buffer.alloc(request.url === '/next' ? 1_000_000 : Number(request.url?.slice(1)), 'a'))
  }).listen(0, '127.0.0.1')
  t.teardown(() => { server.close().closeAllConnections() })
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  for (const size of [70_000, 100_000, 130_000]) {
    const upstream = createUpstream({ userAgent: 'test', random: () => 0, environment: {} }, {
      instance: 'oci',
      url,
      timeout: 5,
      verifySsl: true,
      redirectHosts: [],
      concurrency: 8
    })
    connections.clear()
    const { signal } = new AbortController()
    const paused = await upstream.stream(new URL(`${url}/${size}`), { signal })
    const chunks = paused.stream?.[Symbol.asyncIterator]()
    await chunks?.next()
    // The response ends in memory, and its connection is free.
    await sleep(100)
    const { stream } = await upstream.stream(new URL(`${url}/next`), { signal })
    let bytes = 0
    for await (const chunk of stream ?? []) bytes += (chunk as Buffer).length
    t.equal(bytes, 1_000_000, `after ${size} bytes`)
    t.equal(connections.size, 1, 'on the same connection')
    upstream.close()
  }
})
