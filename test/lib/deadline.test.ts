import t from 'tap'
import { untilAborted, withDeadline } from '../../lib/deadline.ts'

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

await t.test('work with a deadline is given up after its time, at once after none', async t => {
  const never = async (signal: AbortSignal) => await untilAborted(new Promise(() => {}), signal)
  await t.rejects(withDeadline(0, () => late, never), late)
  await t.rejects(withDeadline(1, () => late, never), late)
  t.equal(await withDeadline(10_000, () => late, async () => 1), 1, 'its timer does not keep the process')
})

await t.test('work with a deadline is given up when its parent is aborted, before and meanwhile', async t => {
  const never = async (signal: AbortSignal) => await untilAborted(new Promise(() => {}), signal)
  const parent = new AbortController()
  const running = withDeadline(10_000, () => late, never, parent.signal)
  parent.abort()
  await t.rejects(running, late)
  await t.rejects(withDeadline(10_000, () => late, never, parent.signal), late)
})
