import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { createServer } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { createReadBudget, createReadBuffers } from '../../../../plugins/downloads/transfer/read-buffers.ts'
import { createGrowingReader, type GrowingFile } from '../../../../plugins/downloads/transfer/reader.ts'
import { fileOf } from '../../../fakes/storage.ts'

/** Creates a complete file, and records the memory that its reads use. */
async function fileWith (t: Test, content: Buffer) {
  const handle = await open(join(t.testdir(), 'file'), 'wx+')
  t.teardown(async () => { await handle.close() })
  await handle.writeFile(content)
  const memory = new Set<ArrayBufferLike>()
  let reads = 0
  const file: GrowingFile = {
    arrived: content.length,
    verified: true,
    error: undefined,
    rest: undefined,
    changed: () => () => {},
    async read (target, offset) {
      reads++
      memory.add(target.buffer)
      return (await handle.read(target, 0, target.length, offset)).bytesRead
    }
  }
  return { file, memory, reads: () => reads }
}

/** Serves spans of a file: `/START-END`. */
async function serve (t: Test, file: GrowingFile) {
  const budget = createReadBudget(8 * 1024 * 1024)
  const server = createServer((request, response) => {
    const [start = 0, end = 0] = (request.url ?? '').slice(1).split('-').map(Number)
    response.setHeader('content-length', end - start)
    createGrowingReader(file, { start, end, budget }).pipe(response)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

await t.test('a response has the bytes of its span, and its reads use the same memory again', async t => {
  const content = fileOf(20_000_000)
  const { file, memory, reads } = await fileWith(t, content)
  const port = await serve(t, file)
  const response = await fetch(`http://127.0.0.1:${port}/0-${content.length}`)
  t.ok(Buffer.from(await response.arrayBuffer()).equals(content))
  t.ok(memory.size < reads() / 2, `${memory.size} buffers for ${reads()} reads`)
  for (const [start, end] of [[0, 0], [0, 1], [65_535, 65_537], [1_000_000, 9_000_001], [19_999_999, 20_000_000]]) {
    const part = await fetch(`http://127.0.0.1:${port}/${start}-${end}`)
    t.ok(Buffer.from(await part.arrayBuffer()).equals(content.subarray(start, end)), `${start}-${end}`)
  }
})

await t.test('requests that follow each other on one connection get their own bytes', async t => {
  const content = fileOf(9_000_000)
  const { file } = await fileWith(t, content)
  const port = await serve(t, file)
  const spans = [[0, 3_000_000], [3_000_000, 3_000_000], [3_000_000, 3_000_001], [3_000_001, content.length]] as const
  const socket = connect(port, '127.0.0.1')
  socket.write(spans.map(([start, end], at) =>
    `GET /${start}-${end} HTTP/1.1\r\nhost: a\r\n${at === spans.length - 1 ? 'connection: close\r\n' : ''}\r\n`
  ).join(''))
  const received = await buffer(socket)
  const bodies: Buffer[] = []
  for (let [at, rest] = [0, received]; at < spans.length; at++) {
    const [start, end] = spans[at] ?? [0, 0]
    const body = rest.indexOf('\r\n\r\n') + 4
    bodies.push(rest.subarray(body, body + end - start))
    rest = rest.subarray(body + end - start)
  }
  t.ok(Buffer.concat(bodies).equals(content))
})

await t.test('a destination that may keep its chunks gets memory of its own for each', async t => {
  const content = fileOf(3_000_000)
  const { file, memory, reads } = await fileWith(t, content)
  const budget = createReadBudget(8 * 1024 * 1024)
  const kept = createGrowingReader(file, { start: 0, end: content.length, budget }).pipe(new PassThrough())
  t.ok((await buffer(kept)).equals(content))
  t.equal(memory.size, reads())
})

await t.test('an empty file ends', async t => {
  const { file } = await fileWith(t, Buffer.alloc(0))
  const budget = createReadBudget(1)
  t.equal((await buffer(createGrowingReader(file, { start: 0, budget }))).length, 0)
  const response = await fetch(`http://127.0.0.1:${await serve(t, file)}/0-0`)
  t.equal(await response.text(), '')
})

await t.test('all readers together use a limited memory, and get small buffers above it', async t => {
  const budget = createReadBudget(100_000)
  const readers = Array.from({ length: 5 }, () => createReadBuffers(budget))
  const sizes = () => readers.map(reader => reader.take(1_000_000).length)
  t.strictSame(sizes(), [32_768, 32_768, 32_768, 16_384, 16_384])
  for (const reader of readers) reader.close()
  t.strictSame(budget.take(1_000_000), 100_000, 'closed readers give back everything')
})

await t.test('of two buffers that come back at once, one is used again and the other is freed', async t => {
  const buffers = createReadBuffers(createReadBudget(1_000_000))
  const [first, second] = [buffers.take(1000), buffers.take(1000)]
  const { buffer } = second
  buffers.give(first)
  buffers.give(second)
  t.equal(first.length, 0, 'its memory is free')
  t.equal(buffers.take(1000).buffer, buffer)
})
