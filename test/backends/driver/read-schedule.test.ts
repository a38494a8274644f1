import t from 'tap'
import { createReadSchedule, type ReadScheduleOptions } from '../../../backends/driver/read-schedule.ts'

interface Row { count: number }

function setUp (options: Partial<ReadScheduleOptions<Row>> = {}) {
  let now = 0
  const schedule = createReadSchedule<Row, string>({
    reconcileSeconds: 3600,
    isSame: (a, b) => a === undefined || a.count === b?.count,
    clock: () => now,
    wallClock: () => Date.parse('2026-11-25T00:00:00Z'),
    ...options
  })
  const rows = (names: string, state?: Row) => [...names].map(name => ({ name, state }))
  return {
    schedule,
    rows,
    forward: (seconds: number) => { now += seconds * 1000 },
    read: (names: string, state?: Row, result: string | undefined = 'result') => {
      for (const row of rows(names, state)) schedule.remember(row, result, now)
    }
  }
}
const textOf = (names: Iterable<string>): string => [...names].sort().join('')

await t.test('each crawl reads its share, the oldest results first, and none twice in a period', async t => {
  const { schedule, rows, forward, read } = setUp()
  read('abcdef')
  const all: string[] = []
  schedule.plan(rows('abcdef'))
  for (let at = 0; at < 6; at++) {
    forward(600)
    const { due, unchanged } = schedule.plan(rows('abcdef'))
    t.equal(due.size, 1)
    t.equal(unchanged.size, 5)
    read(textOf(due))
    all.push(...due)
  }
  t.equal(textOf(all), 'abcdef')
})

await t.test('a crawl reads the minimum number of repositories, if there are any', async t => {
  const { schedule, rows, forward, read } = setUp({ minReads: () => 2 })
  t.equal(schedule.plan(rows('abc')).due.size, 3, 'none of them was read before')
  read('abc')
  for (let at = 0; at < 3; at++) {
    forward(1)
    t.equal(schedule.plan(rows('abc')).due.size, 2)
  }
  t.equal(schedule.plan([]).due.size, 0)
})

await t.test('a result counts by the age of its oldest data', async t => {
  const { schedule, rows, forward, read } = setUp()
  forward(3000)
  read('a')
  schedule.remember({ name: 'b', state: undefined }, 'result', 3_000_000, { oldest: 0 })
  schedule.plan(rows('ab'))
  forward(600)
  const { due, unchanged } = schedule.plan(rows('ab'))
  t.strictSame([textOf(due), textOf(unchanged.keys())], ['b', 'a'])
  t.equal(schedule.readSince('b', 3_000_000)?.result, 'result', 'it was read at its time')
})

await t.test('a row is compared with the last row without a change; a list without states shows none', async t => {
  const { schedule, rows, read } = setUp({
    isSame: (a, b) => a === undefined || Math.abs(a.count - (b?.count ?? -9)) <= 1
  })
  read('a', { count: 1 })
  for (const state of [{ count: 2 }, { count: 3 }, undefined, { count: 4 }]) {
    t.equal(schedule.plan(rows('a', state)).unchanged.size, 1, JSON.stringify(state))
  }
  t.equal(schedule.stateOf('a')?.count, 4)
  t.strictSame([...schedule.plan(rows('a', { count: 9 })).due], ['a'])
})

await t.test('a changed repository is read for one hour more, without being due', async t => {
  const { schedule, rows, forward, read } = setUp({ reconcileSeconds: 86_400 })
  read('a')
  read('a', undefined, 'another')
  forward(3599)
  const { due, unchanged } = schedule.plan(rows('a'))
  t.strictSame([due.size, unchanged.size], [0, 0])
  forward(1)
  t.equal(schedule.plan(rows('a')).unchanged.size, 1)
})

await t.test('a period of zero reads every repository in each crawl', async t => {
  const { schedule, rows, read } = setUp({ reconcileSeconds: 0 })
  read('ab')
  t.equal(textOf(schedule.plan(rows('ab')).due), 'ab')
})
