import { setTimeout as sleep } from 'node:timers/promises'
import type { Generator, Load, Measured } from './generator.ts'
import { header, record } from './recording.ts'
import type { Scenario } from './scenarios.ts'
import { refreshAfter, settle, type Target } from './targets.ts'

export interface MeasureOptions {
  generator: Generator
  core: number | undefined
  /** File for what is asked one after another. */
  sequence: string
  rounds: number
  seconds: number
  /** Servers that have been warm before, whatever they were asked. */
  warm: Set<Target>
  /** Seconds until one of our servers is warm. */
  warmUp: number
}

/** What all rounds of one scenario brought, by target. */
export interface Series {
  scenario: string
  measured: Map<Target['name'], Measured[]>
  /** Requests that our servers sent upstream meanwhile, and those that they answered. */
  upstream: Map<Target['name'], { sent: number, answered: number }>
}

/**
 * Seconds for which a server is asked before it is measured: `warmUp` when it has just started, two fifths of that
 * where it runs little that could get faster, and a fifth when only the question is new.
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

/** How a target is asked, once it has answered as it must. */
async function prepare (
  { paths, conditional = false }: Scenario,
  target: Target,
  etag: string | undefined
): Promise<Pick<Load, 'port' | 'paths' | 'headers'>> {
  const [path = '/'] = paths.map(target.at)
  // What has no answer but 304 knows no ETag either.
  const own = conditional ? header(await record(target.port, path), 'etag') ?? etag : undefined
  const headers = own === undefined ? {} : { 'If-None-Match': own }
  const { status } = await record(target.port, path, { headers })
  if (status !== (conditional ? 304 : 200)) throw new Error(`${target.name} answers ${path} with ${status}`)
  return { port: target.port, paths: paths.map(target.at), headers }
}

/** Measures a scenario round by round, each target once a round, after each has been asked until it is warm. */
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
    // What has become old since would be waited for.
    if (isRegistry(target)) await settle(target)
    // Only what is compiled while it runs gets faster; to the bare ones every answer is the same work. Each by itself:
    // who shares a core gets as warm as its share.
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
    // Each round begins with another one.
    const order = [...targets.slice(round % targets.length), ...targets.slice(0, round % targets.length)]
    if (scenario.refreshing !== true) {
      for (const target of order) await once(target)
      continue
    }
    for (const { target, due } of await settleAhead(order, seconds, once)) {
      const before = await upstreamRequests(target)
      await sleep(Math.max(0, due - performance.now()))
      const { perSecond } = await once(target)
      const { sent, answered } = series.upstream.get(target.name) ?? { sent: 0, answered: 0 }
      series.upstream.set(target.name, {
        sent: sent + await upstreamRequests(target) - before,
        answered: answered + perSecond * seconds
      })
    }
  }
  return series
}

/**
 * Has our servers read the catalog, one after another, so that each is about to read it anew when it is `due` to be
 * measured; the others are measured meanwhile.
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
