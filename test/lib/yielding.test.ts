import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { forEachYielding, sortYielding } from '../../lib/yielding.ts'

await t.test('a long loop yields to other work and processes its items in order', async t => {
  let turns = 0
  const working = new AbortController()
  const others = (async () => { while (!working.signal.aborted) { await turn(); turns++ } })()
  const things = Array.from({ length: 64 }, (_, at) => at)
  const done: number[] = []
  await forEachYielding(things, thing => {
    done.push(thing)
    for (const until = performance.now() + 1; performance.now() < until;);
  })
  working.abort()
  await others
  t.strictSame(done, things)
  t.ok(turns >= 8, `${turns} turns`)
})

await t.test('a long sort returns the elements in order, equal ones in their earlier order', async t => {
  await fc.assert(
    fc.asyncProperty(fc.nat(5000), fc.integer({ min: 1, max: 3000 }), async (length, distinct) => {
      const things = Array.from({ length }, (_, at) => ({ key: (at * 7919) % distinct, at }))
      const compare = (a: { key: number }, b: { key: number }) => a.key - b.key
      t.strictSame(await sortYielding(things, compare), [...things].sort(compare))
    }),
    { numRuns: 20 }
  )
})

await t.test('a long sort yields to other work', async t => {
  let turns = 0
  const working = new AbortController()
  const others = (async () => { while (!working.signal.aborted) { await turn(); turns++ } })()
  const things = Array.from({ length: 200_000 }, (_, at) => String((at * 7919) % 200_003))
  await sortYielding(things, (a, b) => a < b ? -1 : 1)
  working.abort()
  await others
  t.ok(turns >= 4, `${turns} turns`)
})
