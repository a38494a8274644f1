import t from 'tap'
import { untilAborted, withDeadline } from '../../lib/deadline.ts'

const late = new Error('late')

await t.test('returns the result of work that ends before the signal is aborted', async t => {
  const controller = new AbortController()
  t.equal(await untilAborted(Promise.resolve(1), controller.signal), 1)
  controller.abort(late)
})

await t.test('throws the reason when the signal is aborted first, and does not interrupt the work', async t => {
  const controller = new AbortController()
  const work = Promise.withResolvers<number>()
  const result = untilAborted(work.promise, controller.signal)
  controller.abort(late)
  await t.rejects(result, late)
  work.reject(new Error('too late to matter'))
  await t.rejects(untilAborted(Promise.reject(new Error('no unhandled rejection')), controller.signal), late)
})

await t.test('throws the error of the work', async t => {
  await t.rejects(untilAborted(Promise.reject(new Error('broken')), new AbortController().signal), {
    message: 'broken'
  })
})

await t.test('work with a deadline is abandoned at the deadline, immediately without remaining time', async t => {
  const never = async (signal: AbortSignal) => await untilAborted(new Promise(() => {}), signal)
  await t.rejects(withDeadline(0, () => late, never), late)
  await t.rejects(withDeadline(1, () => late, never), late)
  t.equal(await withDeadline(10_000, () => late, async () => 1), 1, 'the timer does not keep the process alive')
})

await t.test('a deadline in the past causes no warning of Node.js', async t => {
  const warnings: string[] = []
  const note = ({ name }: Error) => { warnings.push(name) }
  process.on('warning', note)
  t.teardown(() => { process.off('warning', note) })
  const never = async (signal: AbortSignal) => await untilAborted(new Promise(() => {}), signal)
  for (const milliseconds of [-0.5, -1, -1e9, -Infinity]) {
    await t.rejects(withDeadline(milliseconds, () => late, never), late)
  }
  // Node.js emits a warning in the next tick.
  await new Promise(resolve => { setImmediate(resolve) })
  t.strictSame(warnings, [])
})

await t.test('work with a deadline is abandoned when its parent is aborted, before or during the work', async t => {
  const never = async (signal: AbortSignal) => await untilAborted(new Promise(() => {}), signal)
  const parent = new AbortController()
  const running = withDeadline(10_000, () => late, never, parent.signal)
  parent.abort()
  await t.rejects(running, late)
  await t.rejects(withDeadline(10_000, () => late, never, parent.signal), late)
})
