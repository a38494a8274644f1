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
  let closed = false
  const source = {
    [Symbol.asyncIterator]: () => ({
      next: async () => await new Promise<IteratorResult<Buffer>>(() => {}),
      return: async () => {
        closed = true
        return { done: true as const, value: undefined }
      }
    })
  }
  await t.rejects(read(limitSilence(source, 0.02, late, failed)), { message: 'failed: silent' })
  t.ok(closed)
})

await t.test('a slow reader is not a timeout, and errors of the source are converted', async t => {
  async function * source () {
    yield Buffer.from('a')
    yield Buffer.from('b')
  }
  t.equal(await read(limitSilence(source(), 0.02, late, failed), 50), 'ab')
  async function * broken () {
    yield Buffer.from('a')
    throw new Error('reset')
  }
  await t.rejects(read(limitSilence(broken(), 5, late, failed)), { message: 'failed: reset' })
})
