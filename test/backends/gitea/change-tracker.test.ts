import t from 'tap'
import { createChangeTracker } from '../../../backends/gitea/change-tracker.ts'
import type { GiteaRepository } from '../../../schemas/gitea.ts'
import { matchStrictly } from '../../fakes/match.ts'

const long = '2020-01-01T00:00:00Z'
const row = (name: string, fields: Partial<GiteaRepository> = {}): GiteaRepository => ({
  id: 1,
  name,
  owner: { login: 'org' },
  private: false,
  release_counter: 1,
  updated_at: long,
  ...fields
})
const release = (version: string) => ({ version, published_at: long })

function setUp (reconcileSeconds = 86_400) {
  let now = 0
  const tracker = createChangeTracker({
    reconcileSeconds,
    clock: () => now,
    wallClock: () => Date.parse('2026-11-25T00:00:00Z')
  })
  return {
    tracker,
    forward: (seconds: number) => {
      now += seconds * 1000
    },
    holds: (...rows: GiteaRepository[]) => [...tracker.unchanged(rows).keys()]
  }
}

await t.test('a remembered release is valid as long as the fields of its row that change with releases are ' +
  'unchanged', async t => {
  const changes: Array<Partial<GiteaRepository>> = [
    { id: 2 },
    { owner: { login: 'other' } },
    { release_counter: 2 },
    { release_counter: 0 },
    { updated_at: '2026-01-01T00:00:00Z' },
    { updated_at: null }
  ]
  const { tracker, holds } = setUp()
  tracker.remember(row('a'), release('1.0.0'), 0)
  t.strictSame(holds(row('a', { description: 'another', topics: ['x'] })), ['a'])
  for (const change of changes) t.strictSame(holds(row('a', change)), [], JSON.stringify(change))
})

await t.test('rows without a counter or a time are not remembered', async t => {
  const { tracker } = setUp()
  for (const field of ['release_counter', 'updated_at'] as const) {
    tracker.remember(row('a'), release('1.0.0'), 0)
    const { [field]: _, ...rest } = row('a')
    tracker.remember(rest, release('1.0.0'), 1)
    t.equal(tracker.size, 0, field)
  }
})

await t.test('a repository without versions is remembered only when it has no releases', async t => {
  const { tracker, holds } = setUp()
  tracker.remember(row('a'), undefined, 0)
  tracker.remember(row('b', { release_counter: 0 }), undefined, 0)
  t.strictSame(holds(row('a'), row('b', { release_counter: 0 })), ['b'])
})

await t.test('of two overlapping crawls the result of the later request is used, in either order', async t => {
  const { tracker, forward } = setUp()
  forward(10)
  tracker.remember(row('a'), release('2.0.0'), 9000)
  tracker.remember(row('a'), release('1.0.0'), 8000)
  matchStrictly(t, tracker.unchanged([row('a')]).get('a'), { release: { version: '2.0.0' } })
})

await t.test('a different release under an unchanged row causes requests for an hour, and a further request does not ' +
  'end this', async t => {
  const { tracker, forward, holds } = setUp()
  tracker.remember(row('a'), release('1.0.0'), 0)
  tracker.remember(row('a'), release('2.0.0'), 1000)
  forward(3000)
  t.strictSame(holds(row('a')), [])
  tracker.remember(row('a'), release('2.0.0'), 3_000_000)
  forward(500)
  t.strictSame(holds(row('a')), [])
  forward(102)
  t.strictSame(holds(row('a')), ['a'])
})

await t.test('the repositories whose last request is oldest are requested first', async t => {
  const { tracker, forward, holds } = setUp(1000)
  const rows = ['a', 'b', 'c', 'd'].map(name => row(name))
  for (const [at, name] of ['c', 'a', 'd', 'b'].entries()) tracker.remember(row(name), release('1.0.0'), at)
  t.strictSame(holds(...rows), ['a', 'b', 'c', 'd'])
  forward(250)
  t.strictSame(holds(...rows), ['a', 'b', 'd'])
})

await t.test('each repository is requested within the reconcile time', async t => {
  const { tracker, forward, holds } = setUp(1000)
  tracker.remember(row('a'), release('1.0.0'), 0)
  forward(1000)
  t.strictSame(holds(row('a')), [])
})

await t.test('only the repositories of a listing are remembered', async t => {
  const { tracker, holds } = setUp()
  for (const name of ['a', 'b', 'c']) tracker.remember(row(name), release('1.0.0'), 0)
  tracker.retain(new Set(['a', 'c']))
  tracker.forget('c')
  t.equal(tracker.size, 1)
  t.strictSame(holds(row('a'), row('b'), row('c')), ['a'])
})
