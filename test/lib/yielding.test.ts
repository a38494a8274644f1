import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { forEachYielding } from '../../lib/yielding.ts'

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
