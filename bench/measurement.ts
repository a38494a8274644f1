import { setTimeout as sleep } from 'node:timers/promises'
import type { Generator, Load, Measured } from './generator.ts'
import { header, record } from './recording.ts'
import type { Scenario } from './scenarios.ts'
import { refreshAfter, settle, type Target } from './targets.ts'

export interface MeasureOptions {
  generator: Generator
  core: number | undefined
  /** File for the sequence of paths. */
  sequence: string
  rounds: number
  seconds: number
  /** Servers that are warm, from any earlier load. */
  warm: Set<Target>
  /** Seconds of load until a registry is warm. */
  warmUp: number
}

/** Results of all rounds of one scenario, by target. */
export interface Series {
  scenario: string
  measured: Map<Target['name'], Measured[]>
  /** Numbers of requests that a registry sent upstream and of client requests that it served, by target. */
  upstream: Map<Target['name'], { sent: number, completed: number }>
}

/**
 * Returns the seconds of load before a measurement. A registry that has just started gets `warmUp`, a bare server two
 * fifths of it, and a warm server a fifth.
 */
const warming = (target: Target, { warm, warmUp }: Pick<MeasureOptions, 'warm' | 'warmUp'>): number =>
  Math.floor(warmUp * (warm.has(target) ? 0.2 : isRegistry(target) ? 1 : 0.4))

const isRegistry = ({ name }: Target): boolean => name.startsWith('registry')

async function upstreamRequests (target: Target): Promise<number> {
  const { body } = await record(target.port, '/metrics')
  const text = Buffer.from(body, 'base64').toString()
  return [...text.matchAll(/^upstream_requests_total\{[^}]*\} (\d+)$/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0
  )
}

/** Returns the load for a target after a check of its status. */
export async function prepare (
  { paths, conditional = false }: Scenario,
  target: Target,
  etag: string | undefined
): Promise<Pick<Load, 'port' | 'paths' | 'headers'>> {
  const [path = '/'] = paths.map(target.at)
  // A server that always responds with 304 has no ETag, so the ETag of the registry is used.
  const own = conditional ? header(await record(target.port, path), 'etag') ?? etag : undefined
  const headers = own === undefined ? {} : { 'If-None-Match': own }
  const { status } = await record(target.port, path, { headers })
  if (status !== (conditional ? 304 : 200)) throw new Error(`${target.name} responds to ${path} with ${status}`)
  return { port: target.port, paths: paths.map(target.at), headers }
}

/** Measures a scenario round by round, with each target once a round, after a load that warms each target. */
export async function measure (
  scenario: Scenario,
  targets: readonly Target[],
  { generator, core, sequence, rounds, seconds, warm, warmUp }: MeasureOptions
): Promise<Series> {
  const loads = new Map<Target, Load>()
  const registry = targets.find(isRegistry)
  const etag = scenario.conditional === true && registry !== undefined
    ? header(await record(registry.port, scenario.paths[0] ?? '/'), 'etag')
    : undefined
  for (const target of targets) {
    const load = { ...await prepare(scenario, target, etag), sequence, seconds, ...(core !== undefined && { core }) }
    loads.set(target, load)
    // Expired entries are loaded before the measurement, so that no request waits for them.
    if (isRegistry(target)) await settle(target)
    // Bare servers do the same work for every response, so one warm-up is enough; nginx needs none. Targets are warmed
    // one after another, since servers on a shared core would share its time.
    const first = target.name === 'nginx' || (warm.has(target) && !isRegistry(target))
      ? 0
      : warming(target, { warm, warmUp })
    if (first > 0) await generator.measure({ ...load, seconds: first })
    warm.add(target)
  }
  const series: Series = {
    scenario: scenario.name,
    measured: new Map(targets.map(({ name }) => [name, []])),
    upstream: new Map()
  }
  const once = async (target: Target): Promise<Measured> => {
    const measured = await generator.measure(loads.get(target) as Load)
    series.measured.get(target.name)?.push(measured)
    return measured
  }
  for (let round = 0; round < rounds; round++) {
    // Each round starts with a different target.
    const order = [...targets.slice(round % targets.length), ...targets.slice(0, round % targets.length)]
    if (scenario.refreshing !== true) {
      for (const target of order) await once(target)
      continue
    }
    for (const { target, due } of await settleAhead(order, seconds, once)) {
      const before = await upstreamRequests(target)
      await sleep(Math.max(0, due - performance.now()))
      const { perSecond } = await once(target)
      const { sent, completed } = series.upstream.get(target.name) ?? { sent: 0, completed: 0 }
      series.upstream.set(target.name, {
        sent: sent + await upstreamRequests(target) - before,
        completed: completed + perSecond * seconds
      })
    }
  }
  return series
}

/**
 * Fills the caches of the registries one after another, so that each is about to refresh its listing when its
 * measurement is `due`. The other targets are measured in the meantime.
 */
async function settleAhead (
  targets: readonly Target[],
  seconds: number,
  once: (target: Target) => Promise<unknown>
): Promise<Array<{ target: Target, due: number }>> {
  const own = targets.filter(isRegistry)
  const others = targets.filter(target => !isRegistry(target))
  const settled: Array<{ target: Target, due: number }> = []
  for (let at = 0; at < Math.max(own.length, others.length); at++) {
    const [target, other] = [own[at], others[at]]
    if (target !== undefined) {
      await settle(target)
      settled.push({ target, due: performance.now() + (refreshAfter - 0.5) * 1000 })
    }
    if (other !== undefined) await once(other)
    else await sleep(seconds * 1000)
  }
  return settled
}
