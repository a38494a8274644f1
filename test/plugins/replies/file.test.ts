import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { createDownloadSlots, createFileReply, type OpenDownload } from '../../../plugins/replies/file.ts'
import type { Download, OpenContent } from '../../../plugins/downloads/download.ts'
import errors from '../../../plugins/errors.ts'
import { matchStrictly } from '../../fakes/match.ts'

const file = { name: 'x.tar.gz', size: 5, validator: 'one' }

/**
 * Starts a server with one download on a real port; `handled` settles when the handler of the first request has ended.
 */
async function listen (t: Test, open: OpenDownload<Download>, budgetMs = 60_000) {
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(line) } } } })
  await app.register(errors)
  const slots = createDownloadSlots(1)
  const send = createFileReply({ slots, onShed: () => {} })
  const handled = Promise.withResolvers<void>()
  app.get('/', async (_request, reply) => {
    try {
      return await send(reply, {
        ref: { instance: 'a', type: 'taskserv', name: 'x', version: '1.0.0' },
        file,
        published: '2026-01-01T00:00:00Z',
        local: false,
        doubtful: false,
        openBy: performance.now() + budgetMs
      }, open, () => ({ 'cache-control': 'public' }))
    } finally {
      handled.resolve()
    }
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(async () => { await app.close() })
  return { url, port: (app.server.address() as AddressInfo).port, slots, lines, handled: handled.promise }
}

/** Returns content whose stream never sends a byte. */
function silent (): OpenContent & { stream: Readable } {
  const stream = new Readable({ read () {} })
  return {
    file,
    size: 5,
    digest: undefined,
    source: 'upstream',
    waited: true,
    stream,
    read: () => stream,
    release: () => {}
  }
}

await t.test('a client that disconnects before its file begins is not logged, and its slot is released ' +
  'at once', async t => {
  const requested = Promise.withResolvers<void>()
  const content = silent()
  const opens: Array<OpenDownload<Download>> = [
    async (_download, { signal }) => await new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => { reject(new Error('given up')) })
      requested.resolve()
    }),
    async () => {
      setImmediate(requested.resolve)
      return content
    }
  ]
  for (const open of opens) {
    const { port, lines, slots, handled } = await listen(t, open)
    const socket = connect(port, '127.0.0.1')
    socket.write('GET / HTTP/1.1\r\nHost: registry.test\r\n\r\n')
    await requested.promise
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

await t.test('a file that does not begin in time is reported as a timeout', async t => {
  for (const budgetMs of [1, 0]) {
    const content = silent()
    const { url } = await listen(t, async () => content, budgetMs)
    const response = await fetch(url)
    t.equal(response.status, 503)
    matchStrictly(t, await response.json(), { error: 'service_unavailable', details: 'Response timeout' })
    t.ok(content.stream.destroyed)
  }
})

await t.test('a small part of a large file may begin after the deadline, since it may need the complete transfer ' +
  'first', async t => {
  for (
    const [range, size, status] of [
      ['bytes=0-0', 100_000, 206],
      ['bytes=0-32767', 100_000, 206],
      ['bytes=0-32768', 100_000, 503],
      ['bytes=0-0', 32_768, 503],
      ['bytes=3-', 100_000, 206]
    ] as const
  ) {
    const content = { ...silent(), file: { ...file, size }, size }
    const { url } = await listen(t, async () => content, 0)
    const response = fetch(url, { headers: { range } })
    content.stream.push('x')
    content.stream.push(null)
    // Only the status is checked; the body may fail.
    t.equal((await response).status, status, `${range} of ${size}`)
  }
})

await t.test('conditions apply to the opened file, even if another file was looked up', async t => {
  const other = { name: 'x.tar.gz', size: 7, validator: 'two' }
  let released = 0
  const open = async (): Promise<OpenContent> => ({
    file: other,
    size: 7,
    digest: undefined,
    source: 'upstream',
    waited: true,
    release: () => { released++ },
    read: ({ start, end }) => Readable.from([Buffer.from('another').subarray(start, end)])
  })
  const { url } = await listen(t, open)
  const get = async (headers: Record<string, string>) => await fetch(url, { headers })
  const mismatch = await get({ range: 'bytes=2-', 'if-match': '"one"' })
  matchStrictly(t, [
    mismatch.status,
    mismatch.headers.get('etag'),
    mismatch.headers.get('content-range'),
    mismatch.headers.get('cache-control')
  ], [412, null, null, 'no-store'])
  matchStrictly(t, await mismatch.json(), { error: 'precondition_failed' })
  t.equal(released, 1)
  const known = await get({ 'if-none-match': '"two"' })
  matchStrictly(t, [known.status, known.headers.get('etag'), await known.text()], [304, '"two"', ''])
  t.equal(released, 2, 'a file that is not sent is released')
  const either = await get({ range: 'bytes=2-', 'if-match': '"one", "two"' })
  matchStrictly(t, [either.status, either.headers.get('etag'), await either.text()], [206, '"two"', 'other'])
  const held = await get({ range: 'bytes=2-', 'if-range': '"one"' })
  matchStrictly(t, [held.status, await held.text()], [200, 'another'])
  t.equal((await get({ 'if-unmodified-since': 'Wed, 31 Dec 2025 23:59:59 GMT' })).status, 412)
  t.equal((await get({ 'if-unmodified-since': 'Thu, 01 Jan 2026 00:00:00 GMT' })).status, 200)
})

await t.test('a request whose condition fails neither uses a download slot nor opens a file', async t => {
  const { url, slots } = await listen(t, async () => { throw new Error('opened') })
  t.equal((await fetch(url, { headers: { 'if-match': '"other"' } })).status, 412)
  t.equal(slots.active(), 0)
})
