import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { table } from '../test/soak/report.ts'
import { connections } from './generator.ts'
import type { Ratios } from './guard.ts'
import { prepare } from './measurement.ts'
import { cpuSeconds, start } from './process.ts'
import { header, record } from './recording.ts'
import type { Scenario } from './scenarios.ts'
import { median, ratios, type Spread } from './statistics.ts'
import { settle, type Target, type TargetName } from './targets.ts'

/** Scenarios with a row in the table of CPU times. */
const measuredScenarios = new Set(['list(10)', 'search', 'metadata', 'versions', '304', 'mix'])

/** Returns whether the CPU time of a scenario is measured. */
export const isMeasured = ({ name }: Pick<Scenario, 'name'>): boolean => measuredScenarios.has(name)

/** Each registry, and the bare server that it is compared with. */
export const comparisons: ReadonlyArray<readonly [registry: TargetName, bare: TargetName]> = [
  ['registry', 'Fastify'],
  ['registry, logging', 'Fastify, logging']
]

/** Number of requests of one measurement. It contains the whole sequence of the mix. */
export const requestsPerRun = 10_000
/** Number of runs without a measurement, in which Node.js compiles the code of a server. */
const warmUpRuns = 2
/** CPU time of a request in microseconds, round by round, for each server. */
export interface CpuSeries { scenario: string, micros: Map<TargetName, number[]> }

export interface CpuOptions {
  /** Processor of the load. */
  core: number | undefined
  /** Directory for the requests of a run. */
  folder: string
  rounds: number
}

/** Sends the requests of one run. Throws when a response has another status than `status`. */
async function send (port: number, file: string, status: number, core: number | undefined): Promise<void> {
  const program = start(
    process.execPath,
    [join(import.meta.dirname, 'fixed-load.ts'), String(port), String(requestsPerRun), file],
    { output: 'pipe', ...(core !== undefined && { core }) }
  )
  const chunks: Buffer[] = []
  program.child.stdout?.on('data', (chunk: Buffer) => { chunks.push(chunk) })
  const code = await program.end
  const printed = Buffer.concat(chunks).toString().trim()
  if (code !== 0 || printed !== JSON.stringify({ [status]: requestsPerRun })) {
    throw new Error(`Requests failed: ${printed}`)
  }
}

/** Measures the CPU time of one scenario: each round has a run for each server, in turn. */
export async function measureCpu (
  scenario: Scenario,
  targets: readonly Target[],
  { core, folder, rounds }: CpuOptions
): Promise<CpuSeries> {
  const [registry] = targets.filter(({ name }) => name.startsWith('registry'))
  const etag = scenario.conditional === true && registry !== undefined
    ? header(await record(registry.port, scenario.paths[0] ?? '/'), 'etag')
    : undefined
  const runs = await Promise.all(targets.map(async target => {
    const { paths, headers } = await prepare(scenario, target, etag)
    const file = join(folder, `requests-${target.port}.json`)
    await writeFile(file, JSON.stringify({ paths, headers }))
    const status = scenario.conditional === true ? 304 : 200
    return { target, run: async () => { await send(target.port, file, status, core) } }
  }))
  const micros = new Map<TargetName, number[]>(targets.map(({ name }) => [name, []]))
  for (const { target, run } of runs) {
    // Expired entries are loaded before the measurement, so that no request waits for them.
    if (target.name.startsWith('registry')) await settle(target)
    for (let runs = 0; runs < warmUpRuns; runs++) await run()
  }
  for (let round = 0; round < rounds; round++) {
    // Each round starts with a different server.
    for (const { target, run } of [...runs.slice(round % runs.length), ...runs.slice(0, round % runs.length)]) {
      const before = await cpuSeconds(target.running.pid)
      await run()
      micros.get(target.name)?.push((await cpuSeconds(target.running.pid) - before) / requestsPerRun * 1e6)
    }
  }
  return { scenario: scenario.name, micros }
}

/** Returns the ratio of a registry to its bare server, round by round: 0.5 for twice the CPU time. */
function ratioOf ({ micros }: CpuSeries, [registry, bare]: typeof comparisons[number]): Spread {
  return ratios(micros.get(bare) ?? [], micros.get(registry) ?? [])
}

/** Returns the median ratios of all scenarios. */
export function toCpuRatios (all: readonly CpuSeries[]): Ratios {
  return Object.fromEntries(all.map(series => [
    series.scenario,
    Object.fromEntries(comparisons.map(comparison => [
      comparison[0],
      Number(ratioOf(series, comparison).median.toFixed(3))
    ]))
  ]))
}

const shown = ({ median, least, greatest }: Spread): string =>
  `${median.toFixed(2)} (${least.toFixed(2)}–${greatest.toFixed(2)})`

/** Returns the table of ratios to bare Fastify, with the medians of the CPU times. */
export function cpuTable (all: readonly CpuSeries[]): string[] {
  const time = ({ micros }: CpuSeries, target: TargetName): string => median(micros.get(target) ?? []).toFixed(1)
  return table(
    ['', ...comparisons.flatMap(([registry, bare]) => [`${bare}, µs`, `${registry}, µs`, 'ratio'])],
    all.map(series => [
      series.scenario,
      ...comparisons.flatMap(comparison => [
        time(series, comparison[1]),
        time(series, comparison[0]),
        shown(ratioOf(series, comparison))
      ])
    ])
  )
}

export interface CpuReport {
  all: readonly CpuSeries[]
  command: string
  date: string
  machine: string
  versions: string
  flags: readonly string[]
  rounds: number
}

/** Returns the measured part `cpu` of docs/performance.md, as Markdown. */
export function cpuReport ({ all, command, date, machine, versions, flags, rounds }: CpuReport): string {
  const node = flags.length === 0 ? 'Node.js without options' : `Node.js with \`${flags.join(' ')}\``
  return [
    `Measured by \`${command}\` on ${date}: ${machine}; ${versions}; ${node}, as in \`npm start\`. ` +
    `${connections} connections, ${rounds} rounds of ${requestsPerRun.toLocaleString('en-US')} requests, in turn.`,
    cpuTable(all).join('\n')
  ].join('\n\n')
}
