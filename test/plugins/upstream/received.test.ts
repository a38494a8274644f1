import { createServer, get, type IncomingMessage } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import t from 'tap'

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
