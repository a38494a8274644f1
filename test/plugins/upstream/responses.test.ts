import { PassThrough, Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { limitSilence } from '../../../plugins/upstream/responses.ts'

const late = () => new Error('silent')
const failed = (error: unknown) => new Error(`failed: ${error instanceof Error ? error.message : ''}`)

async function read (chunks: AsyncIterable<Buffer>, pauseMs = 0): Promise<string> {
  let text = ''
  for await (const chunk of chunks) {
    text += chunk.toString()
    await sleep(pauseMs)
  }
  return text
}

await t.test('a source without bytes for too long fails and is closed', async t => {
  for (const before of ['', 'a']) {
    const source = new PassThrough()
    if (before !== '') source.write(before)
    await t.rejects(read(limitSilence(source, 0.02, late, failed)), { message: 'silent' })
    t.ok(source.destroyed)
  }
})

await t.test('a slow reader is not a timeout', async t => {
  const chunks = ['a', 'b', 'c'].map(letter => Buffer.alloc(64 * 1024, letter))
  const source = Readable.from(chunks, { objectMode: false })
  t.equal(await read(limitSilence(source, 0.02, late, failed), 50), chunks.join(''))
})

await t.test('a source that is slower than its reader, but never silent for long, is read to its end', async t => {
  async function * source () {
    for (const letter of 'abcdefgh') {
      await sleep(20)
      yield Buffer.from(letter)
    }
  }
  t.equal(await read(limitSilence(Readable.from(source()), 1, late, failed)), 'abcdefgh')
})

await t.test('errors and an early end of the source are converted', async t => {
  async function * broken () {
    yield Buffer.from('a')
    throw new Error('reset')
  }
  await t.rejects(read(limitSilence(Readable.from(broken()), 5, late, failed)), { message: 'failed: reset' })
  const closed = new PassThrough()
  closed.write('a')
  const result = limitSilence(closed, 5, late, failed)
  await t.rejects(
    async () => {
      for await (const chunk of result) {
        t.equal(String(chunk), 'a')
        closed.destroy()
      }
    },
    { message: 'failed: The connection was closed' }
  )
})

await t.test('a source is destroyed with its result, also when it was never read', async t => {
  for (const isRead of [false, true]) {
    const source = new PassThrough()
    const result = limitSilence(source, 5, late, failed)
    if (isRead) result.resume()
    await sleep(5)
    result.destroy()
    await sleep(5)
    t.ok(source.destroyed)
  }
})

await t.test('a source is not read further than its reader needs', async t => {
  let sent = 0
  function * source () {
    for (; sent < 1000; sent++) yield Buffer.alloc(64 * 1024)
  }
  const result = limitSilence(Readable.from(source(), { objectMode: false }), 5, late, failed)
  t.equal((await result[Symbol.asyncIterator]().next()).done, false)
  await sleep(20)
  t.ok(sent < 10, String(sent))
  result.destroy()
})
