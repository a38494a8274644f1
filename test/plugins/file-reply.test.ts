import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { createDeadline, late, type Deadline } from '../../plugins/deadline.ts'
import { createDownloadSlots } from '../../plugins/download-slots.ts'
import type { Content } from '../../plugins/downloads.ts'
import errors from '../../plugins/errors.ts'
import { createFileReply, type Download } from '../../plugins/file-reply.ts'

const file = { name: 'x.tar.gz', size: 5, validator: 'one' }

/** A server with one download, on a real port; `answered` settles when nothing more is done for the nth request. */
async function listen (t: Test, open: Download['open'], deadline: Deadline = createDeadline(60_000)) {
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(line) } } } })
  await app.register(errors)
  const slots = createDownloadSlots(1)
  const send = createFileReply({ slots, onShed: () => {} })
  const handled = Promise.withResolvers<void>()
  app.get('/', async (_request, reply) => {
    try {
      return await send(reply, { file, published: '2026-01-01T00:00:00Z', digest: undefined, open, deadline, late: () => late('a') }, () => ({ 'cache-control': 'public' }))
    } finally {
      handled.resolve()
    }
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(async () => { await app.close() })
  return { url, port: (app.server.address() as AddressInfo).port, slots, lines, handled: handled.promise }
}

/** Content that never comes. */
function silent (): Content & { stream: Readable } {
  const stream = new Readable({ read () {} })
  return { file, size: 5, digest: undefined, source: 'upstream', waited: true, stream, read: () => stream, release: () => {} }
}

await t.test('a client that hangs up before its file begins is no failure, and nothing is kept waiting for it', async t => {
  const asked = Promise.withResolvers<void>()
  const content = silent()
  const opens: Array<Download['open']> = [
    async signal => await new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => { reject(new Error('given up')) })
      asked.resolve()
    }),
    async () => {
      setImmediate(asked.resolve)
      return content
    }
  ]
  for (const open of opens) {
    const { port, lines, slots, handled } = await listen(t, open)
    const socket = connect(port, '127.0.0.1')
    socket.write('GET / HTTP/1.1\r\nHost: registry.test\r\n\r\n')
    await asked.promise
    while (slots.active() === 0) await turn()
    socket.destroy()
    await once(socket, 'close')
    await handled
    await turn()
    t.strictSame(lines, [])
    t.equal(slots.active(), 0)
  }
  t.ok(content.stream.destroyed)
})

await t.test('a file that does not begin in time is told to be late', async t => {
  for (const deadline of [createDeadline(1), { left: () => 0 }]) {
    const content = silent()
    const { url } = await listen(t, async () => content, deadline)
    const answer = await fetch(url)
    t.equal(answer.status, 503)
    t.match(await answer.json(), { error: 'service_unavailable', details: 'Response timeout' })
    t.ok(content.stream.destroyed)
  }
})

await t.test('a small part of a large file, which can only come when all of that is there, may take its time', async t => {
  for (const [range, size, status] of [['bytes=0-0', 100_000, 206], ['bytes=0-32767', 100_000, 206], ['bytes=0-32768', 100_000, 503], ['bytes=0-0', 32_768, 503], ['bytes=3-', 100_000, 206]] as const) {
    const content = { ...silent(), file: { ...file, size }, size }
    const { url } = await listen(t, async () => content, { left: () => 0 })
    const answer = fetch(url, { headers: { range } })
    content.stream.push('x')
    content.stream.push(null)
    // What it then brings is another matter.
    t.equal((await answer).status, status, `${range} of ${size}`)
  }
})
