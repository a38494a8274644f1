import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { parseCores } from '../bench/cores.ts'
import { cpuTable, toCpuRatios } from '../bench/cpu.ts'
import { parseCpuSeconds } from '../bench/process.ts'
import { margin, slower } from '../bench/guard.ts'
import { createScaleApp } from '../bench/scale-app.ts'
import { createAddresses, createSequence, zipf } from '../bench/mix.ts'
import { byPart, selfTimes } from '../bench/profile.ts'
import { ratioTable, toRatios } from '../bench/results.ts'
import { median, ratios } from '../bench/statistics.ts'
import { describe } from '../bench/words.ts'
import { createRandom } from './soak/flapping.ts'

const catalog = Array.from({ length: 1200 }, (_, number) => describe(number))

await t.test('the mix requests over 1,000 distinct addresses, the first one over 20 times as often as the ' +
  'hundredth', async t => {
  const addresses = createAddresses(catalog, createRandom(1))
  t.ok(addresses.length >= 1000)
  t.equal(new Set(addresses).size, addresses.length)
  for (const part of ['type=', 'limit=', 'offset=', 'q=', '/provider/']) {
    t.ok(addresses.some(address => address.includes(part)), part)
  }
  const sequence = createSequence(addresses, createRandom(1))
  t.equal(sequence.length, 20_000)
  t.equal(new Set(sequence).size, addresses.length)
  const [first, hundredth] = [0, 99].map(at => sequence.filter(address => address === addresses[at]).length) as [
    number,
    number
  ]
  t.ok(first > hundredth * 20, `${first} and ${hundredth}`)
  t.strictSame(createSequence(addresses, createRandom(1)), sequence, 'the same seed gives the same sequence')
})

await t.test('the Zipf distribution requests the second address half as often as the first', async t => {
  const [first = 0, second = 0, third = 0] = zipf(3)
  t.ok(Math.abs(first - 2 * (second - first)) < 1e-9)
  t.equal(third, 1)
})

await t.test('extensions of a generated catalog have unique names', async t => {
  t.equal(new Set(catalog.map(({ name }) => name)).size, catalog.length)
})

await t.test('the ratio is the median of the ratios of each round', async t => {
  t.strictSame([median([3, 1, 2]), median([4, 1, 2, 3])], [2, 2.5])
  t.strictSame(ratios([50, 20, 90], [100, 20, 100]), { median: 0.9, least: 0.5, greatest: 1 })
})

await t.test('the table has a row for each scenario and empty cells for servers that were not measured', async t => {
  const measured = (...perSecond: number[]) => perSecond.map(value => ({ perSecond: value, p50: 1, p99: 2 }))
  const all = [{
    scenario: 'list',
    measured: new Map([['node:http' as const, measured(1000, 3000)], ['registry' as const, measured(900, 2100)]]),
    upstream: new Map()
  }]
  t.equal(ratioTable(all).at(-1), '| list | 2,000 | 0.80 (0.70–0.90) |  |  |  |')
  t.strictSame(toRatios(all), { list: { registry: 0.8 } })
})

await t.test('the CPU time of a process is its user and system time, for any name of its program', async t => {
  const fields = 'S 1 1 1 0 -1 4194304 100 0 0 0 250 50 7 7 20 0 11 0 100'
  t.equal(parseCpuSeconds(`42 (node) ${fields}`), 3)
  t.equal(parseCpuSeconds(`42 (a) b (c) ${fields}`), 3)
})

await t.test('each registry is compared with its bare server, round by round', async t => {
  const all = [{
    scenario: 'list',
    micros: new Map([
      ['Fastify' as const, [20, 30, 40]],
      ['registry' as const, [25, 40, 40]],
      ['Fastify, logging' as const, [30, 30, 30]],
      ['registry, logging' as const, [60, 40, 50]]
    ])
  }]
  t.equal(cpuTable(all).at(-1), '| list | 30.0 | 40.0 | 0.80 (0.75–1.00) | 30.0 | 50.0 | 0.60 (0.50–0.75) |')
  t.strictSame(toCpuRatios(all), { list: { registry: 0.8, 'registry, logging': 0.6 } })
})

await t.test('the guard fails only for a ratio that fell by more than the margin or is no longer measured', async t => {
  const baseline = { list: { registry: 1 }, search: { registry: 0.5 } }
  t.strictSame(slower({ list: { registry: margin }, search: { registry: 2 } }, baseline), [])
  t.strictSame(slower({ list: { registry: margin - 0.01 }, search: { registry: 0.5 } }, baseline), [
    `list, registry: ${(margin - 0.01).toFixed(2)} of bare Fastify, and was 1.00`
  ])
  t.strictSame(slower({ list: { registry: 1 } }, baseline), ['search, registry: not measured'])
})

await t.test('a profile is reduced to the self time of each function, without idle time', async t => {
  const frame = (id: number, functionName: string) => ({ id, callFrame: { functionName, url: '', lineNumber: 0 } })
  const shares = selfTimes({
    nodes: [frame(1, 'a'), frame(2, '(idle)'), frame(3, 'b')],
    samples: [1, 2, 3, 1],
    timeDeltas: [10, 500, 10, 20]
  })
  t.strictSame(shares.map(({ name, share }) => [name, share]), [['a', 0.75], ['b', 0.25]])
})

await t.test('processor lists in the Linux format are parsed', async t => {
  t.strictSame(parseCores('0-2,5\n'), [0, 1, 2, 5])
  t.strictSame(parseCores(''), [])
})

await t.test('committed results contain no paths of the machine that measured them', async t => {
  const folder = new URL('../bench/', import.meta.url)
  for (const file of readdirSync(folder).filter(name => /\.(?:md|json)$/.test(name))) {
    t.notMatch(readFileSync(new URL(file, folder), 'utf8'), /\/(?:home|root|tmp|work|Users)\//, file)
  }
})

await t.test('profile times are grouped by package, registry, Node.js and native function', async t => {
  const at = (name: string, place: string, share: number) => ({ name, place, share })
  t.strictSame(
    byPart([
      at('send', 'fastify/lib/reply.js:1', 0.25),
      at('header', 'fastify/lib/reply.js:9', 0.25),
      at('list', 'backends/catalog/plugin.ts:3', 0.125),
      at('observe', '@prometheus-io/client/lib/histogram.js:2', 0.125),
      at('emit', 'node:events:1', 0.125),
      at('writev', '', 0.0625)
    ])
      .map(({ part, share }) => [part, share]),
    [['fastify', 0.5], ['the registry', 0.125], ['@prometheus-io/client', 0.125], ['Node.js', 0.125], [
      '`writev`',
      0.0625
    ]]
  )
})

await t.test('the app of the scale benchmark serves its generated catalog', async t => {
  const { app } = await createScaleApp(60)
  t.teardown(async () => { await app.close() })
  const { statusCode, headers } = await app.inject('/api/v1/extensions?limit=1')
  t.strictSame([statusCode, headers['x-total-count']], [200, '60'])
})
