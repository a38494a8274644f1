// Compares the registry with bare servers: `npm run bench -- [--quick] [--rounds N] [--seconds N] [--generator
// wrk|autocannon] [--only NAME] [--profile FOLDER] [--check | --save-baseline]`. Prints the table, and writes the
// results to docs/performance.md. --check writes nothing, and fails if ratios are far below bench/baseline.json. --only
// selects the scenarios with NAME in their name. --profile makes the registries write CPU profiles, which slows them.
// With --only or --profile no results are written.
import { rmSync } from 'node:fs'
import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { chooseCores } from './cores.ts'
import { writePart } from './document.ts'
import { createGenerator } from './generator.ts'
import { slower, type Ratios } from './guard.ts'
import { describeMachine, describeVersions } from './machine.ts'
import { measure, type Series } from './measurement.ts'
import { stop } from './process.ts'
import { ratioTable, report, toRatios } from './results.ts'
import { createScenarios } from './scenarios.ts'
import { recordResponses, refreshingSeconds, startBare, startRegistry, startUpstreams, type Target } from './targets.ts'

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    generator: { type: 'string' },
    only: { type: 'string' },
    profile: { type: 'string' },
    check: { type: 'boolean', default: false },
    'save-baseline': { type: 'boolean', default: false }
  }
})
const { quick, generator: expected, only } = values
const rounds = Number(values.rounds ?? (quick ? 1 : 5))
const seconds = Number(values.seconds ?? (quick ? 1 : 2))
const isWithin = (value: number, maximum: number): boolean =>
  Number.isSafeInteger(value) && value > 0 && value <= maximum
if (
  !isWithin(rounds, 50) || !isWithin(seconds, 60) || (values.check && values['save-baseline']) ||
  (expected !== undefined && expected !== 'wrk' && expected !== 'autocannon')
) {
  console.error(
    'Usage: npm run bench -- [--quick] [--rounds 1..50] [--seconds 1..60] [--generator wrk|autocannon] [--only NAME] ' +
      '[--profile FOLDER] [--check | --save-baseline]'
  )
  process.exit(64)
}

const baseline = join(import.meta.dirname, 'baseline.json')
const former = values.check
  ? (JSON.parse(
      await readFile(baseline, 'utf8').catch(() => {
        throw new Error('bench/baseline.json does not exist: npm run bench -- --save-baseline')
      })
    ) as { ratios: Ratios }).ratios
  : undefined
const folder = await mkdtemp(join(tmpdir(), 'extension-registry-bench-'))
process.once('exit', () => { rmSync(folder, { recursive: true, force: true }) })
const cores = chooseCores()
const setting = { folder, cores, ...(values.profile !== undefined && { profile: resolve(values.profile) }) }
const generator = createGenerator(expected)
const options = {
  generator,
  core: cores.load,
  sequence: join(folder, 'sequence'),
  rounds,
  seconds,
  warm: new Set<Target>(),
  warmUp: quick ? 3 : 10
}
const scenarios = createScenarios().filter(({ name }) => only === undefined || name.includes(only))
const all: Series[] = []

async function measureAll (refreshing: boolean, targets: readonly Target[]): Promise<void> {
  for (const scenario of scenarios.filter(scenario => (scenario.refreshing === true) === refreshing)) {
    console.error(`${scenario.name} …`)
    all.push(
      await measure(scenario, targets, {
        ...options,
        ...(refreshing && { seconds: Math.max(seconds, refreshingSeconds) })
      })
    )
  }
}

const upstreams = await startUpstreams(setting)
const startBoth = async (refreshing: boolean) =>
  await Promise.all(
    [false, true].map(async logging => await startRegistry(setting, upstreams, { logging, refreshing }))
  )
const registries = await startBoth(false)
const [first] = registries as [Target]
const bare = await startBare(setting, await recordResponses(first, scenarios), scenarios)
await measureAll(false, [...bare, ...registries])
await Promise.all(registries.map(async ({ running }) => { await stop(running) }))
if (scenarios.some(({ refreshing }) => refreshing)) {
  const refreshing = await startBoth(true)
  await measureAll(true, [...bare, ...refreshing])
  await Promise.all(refreshing.map(async ({ running }) => { await stop(running) }))
}
await Promise.all(bare.map(async ({ running }) => { await stop(running) }))

console.log(ratioTable(all).join('\n'))
const measured = toRatios(all)
if (former !== undefined) {
  const found = slower(
    measured,
    Object.fromEntries(Object.entries(former).filter(([scenario]) => only === undefined || scenario.includes(only)))
  )
  for (const line of found) console.error(`slower: ${line}`)
  process.exit(found.length > 0 ? 1 : 0)
}
if (values.profile !== undefined || only !== undefined) process.exit()
const about = {
  date: new Date().toISOString().slice(0, 10),
  machine: describeMachine(),
  versions: describeVersions(),
  generator: generator.name
}
await writePart(
  'requests',
  report({
    ...about,
    all,
    rounds,
    seconds,
    pinned: cores.server !== undefined,
    command: ['npm run bench', ...(process.argv.length > 2 ? ['--'] : []), ...process.argv.slice(2)].join(' ')
  })
)
if (values['save-baseline']) {
  // The ratios of the other servers are for comparison only.
  const kept = Object.fromEntries(
    Object.entries(measured).map((
      [scenario, targets]
    ) => [scenario, Object.fromEntries(Object.entries(targets).filter(([target]) => target.startsWith('registry')))])
  )
  await writeFile(baseline, `${JSON.stringify({ ...about, ratios: kept }, undefined, 2)}\n`)
}
console.error('docs/performance.md written')
// The remaining processes end with this one.
process.exit()
