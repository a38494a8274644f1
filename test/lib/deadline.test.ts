import t from 'tap'
import { deadlineAfter, untilAborted } from '../../lib/deadline.ts'

const late = new Error('late')

await t.test('returns the result of work that ends before the signal is aborted', async t => {
  const controller = new AbortController()
  t.equal(await untilAborted(Promise.resolve(1), controller.signal), 1)
  controller.abort(late)
})

await t.test('throws the reason when the signal is aborted first, and leaves the work alone', async t => {
  const controller = new AbortController()
  const work = Promise.withResolvers<number>()
  const result = untilAborted(work.promise, controller.signal)
  controller.abort(late)
  await t.rejects(result, late)
  work.reject(new Error('too late to matter'))
  await t.rejects(untilAborted(Promise.reject(new Error('no unhandled rejection')), controller.signal), late)
})

await t.test('throws what the work throws', async t => {
  await t.rejects(untilAborted(Promise.reject(new Error('broken')), new AbortController().signal), {
    message: 'broken'
  })
})

await t.test('a deadline of no milliseconds is over at once, a later one after its time', async t => {
  t.equal(deadlineAfter(0, () => late).reason, late)
  const signal = deadlineAfter(1, () => late)
  t.equal(signal.aborted, false)
  const keepAlive = setTimeout(() => {}, 10_000)
  await t.rejects(untilAborted(new Promise(() => {}), signal), late)
  clearTimeout(keepAlive)
})
