import t from 'tap'
import { untilAborted, withDeadline } from '../../lib/deadline.ts'

const late = new Error('late')

await t.test('untilAborted returns the result of work that ends before the signal is aborted', async t => {
  const controller = new AbortController()
  t.equal(await untilAborted(Promise.resolve(1), controller.signal), 1)
  controller.abort(late)
})

await t.test('untilAborted throws the reason if the signal is aborted first, and ignores the work', async t => {
  const controller = new AbortController()
  const work = Promise.withResolvers<number>()
  const result = untilAborted(work.promise, controller.signal)
  controller.abort(late)
  await t.rejects(result, late)
  work.reject(new Error('too late to matter'))
  await t.rejects(untilAborted(Promise.reject(new Error('no unhandled rejection')), controller.signal), late)
})

await t.test('untilAborted throws the error of the work', async t => {
  await t.rejects(untilAborted(Promise.reject(new Error('broken')), new AbortController().signal), {
    message: 'broken'
  })
})

await t.test('a deadline of 0 ms has expired at once, a later deadline expires after its time', async t => {
  t.equal(deadlineAfter(0, () => late).reason, late)
  const signal = deadlineAfter(1, () => late)
  t.equal(signal.aborted, false)
  const keepAlive = setTimeout(() => {}, 10_000)
  await t.rejects(untilAborted(new Promise(() => {}), signal), late)
  clearTimeout(keepAlive)
})
