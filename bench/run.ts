// Compares the registry with bare servers: `npm run bench -- [--quick] [--cpu] [--rounds N] [--seconds N] [--generator
// wrk|autocannon] [--only NAME] [--profile FOLDER] [--check | --save-baseline]`. Prints the tables, and writes them to
// docs/performance.md. --cpu measures only the CPU time of requests. --check does the same, writes nothing, and fails
// if ratios are far below bench/baseline.json. --only selects the scenarios with NAME in their name. --profile makes
// the registries write CPU profiles, which slows them. With --only or --profile no results are written.
import { rmSync } from 'node:fs'
import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { chooseCores } from './cores.ts'
import { writePart } from './document.ts'
import { cpuReport, cpuTable, isMeasured, measureCpu, toCpuRatios, type CpuSeries } from './cpu.ts'
import { createGenerator } from './generator.ts'
import { slower, type Ratios } from './guard.ts'
import { describeMachine, describeVersions } from './machine.ts'
import { measure, type Series } from './measurement.ts'
import { startFlags, stop } from './process.ts'
import { ratioTable, report } from './results.ts'
import { createScenarios } from './scenarios.ts'
import { recordResponses, refreshingSeconds, startBare, startRegistry, startUpstreams, type Target } from './targets.ts'

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    cpu: { type: 'boolean', default: false },
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
const cpuOnly = values.cpu || values.check
const rounds = Number(values.rounds ?? (quick ? 1 : 5))
const cpuRounds = Number(values.rounds ?? (quick ? 3 : 21))
const seconds = Number(values.seconds ?? (quick ? 1 : 2))
const isWithin = (value: number, maximum: number): boolean =>
  Number.isSafeInteger(value) && value > 0 && value <= maximum
if (
  !isWithin(rounds, 50) || !isWithin(seconds, 60) || (values.check && values['save-baseline']) ||
  (expected !== undefined && expected !== 'wrk' && expected !== 'autocannon')
) {
  console.error(
    'Usage: npm run bench -- [--quick] [--cpu] [--rounds 1..50] [--seconds 1..60] [--generator wrk|autocannon] ' +
      '[--only NAME] [--profile FOLDER] [--check | --save-baseline]'
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
const scenarios = createScenarios().filter(scenario =>
  (only === undefined || scenario.name.includes(only)) && (!cpuOnly || isMeasured(scenario))
)
const all: Series[] = []
const cpu: CpuSeries[] = []

async function measureAllCpu (targets: readonly Target[]): Promise<void> {
  for (const scenario of scenarios.filter(isMeasured)) {
    console.error(`CPU time of ${scenario.name} …`)
    cpu.push(await measureCpu(scenario, targets, { core: cores.load, folder, rounds: cpuRounds }))
  }
}

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
const isLogging = ({ name }: Target): boolean => name === 'Fastify, logging'
await measureAllCpu([...bare.filter(({ name }) => name.startsWith('Fastify')), ...registries])
await Promise.all(bare.filter(isLogging).map(async ({ running }) => { await stop(running) }))
const others = bare.filter(target => !isLogging(target))
if (!cpuOnly) await measureAll(false, [...others, ...registries])
await Promise.all(registries.map(async ({ running }) => { await stop(running) }))
if (scenarios.some(({ refreshing }) => refreshing)) {
  const refreshing = await startBoth(true)
  await measureAll(true, [...others, ...refreshing])
  await Promise.all(refreshing.map(async ({ running }) => { await stop(running) }))
}
await Promise.all(others.map(async ({ running }) => { await stop(running) }))

console.log(cpuTable(cpu).join('\n'))
if (!cpuOnly) console.log(`\n${ratioTable(all).join('\n')}`)
if (former !== undefined) {
  const found = slower(
    toCpuRatios(cpu),
    Object.fromEntries(Object.entries(former).filter(([scenario]) => only === undefined || scenario.includes(only)))
  )
  for (const line of found) console.error(`slower: ${line}`)
  process.exit(found.length > 0 ? 1 : 0)
}
if (values.profile !== undefined || only !== undefined) process.exit()
const about = { date: new Date().toISOString().slice(0, 10), machine: describeMachine(), versions: describeVersions() }
const command = ['npm run bench', ...(process.argv.length > 2 ? ['--'] : []), ...process.argv.slice(2)].join(' ')
await writePart('cpu', cpuReport({ ...about, all: cpu, command, flags: startFlags, rounds: cpuRounds }))
if (!cpuOnly) {
  const pinned = cores.server !== undefined
  await writePart(
    'requests',
    report({ ...about, generator: generator.name, all, rounds, seconds, pinned, command })
  )
}
if (values['save-baseline']) {
  await writeFile(baseline, `${JSON.stringify({ ...about, ratios: toCpuRatios(cpu) }, undefined, 2)}\n`)
}
console.error('docs/performance.md written')
// The remaining processes end with this one.
process.exit()
