import { setTimeout as wait } from 'node:timers/promises'
import type { Test } from 'tap'
import { extensionTypes } from '../../schemas/extension.ts'
import { startApp } from '../fakes/app.ts'
import type { FaultServer } from '../fakes/fault-server.ts'
import { send } from './client.ts'
import { setWallClock } from './environment.ts'
import { faultNames, faults, type FaultName } from './faults.ts'
import { describe, faultsOf, instance, labelOf, type Observation } from './outcomes.ts'
import { createSetting, stand, type Setting } from './setting.ts'
import { budget, operations, table, type Cell, type UpstreamRequest, type Source, type Temperature } from './table.ts'

/** Observation of one cell: its label, and the violations of its promise. */
export interface Seen { fault: FaultName, operation: UpstreamRequest, reported: string, problems: string[] }

/** Milliseconds that the registry may need above a limit: half of a timeout, so that one wait differs from two. */
const tolerance = budget / 4
/** Seconds: nearly the time that an entry is fresh, and then enough to expire it. */
const [used, expired] = [270, 40]

const ready = async (t: Test, setting: Setting) => {
  const { server, config, grounds } = await stand(setting)
  t.teardown(server.close)
  const start = async () => {
    const { app, clock } = await startApp(t, config, { probeTimeout: 750 })
    const url = await app.listen({ host: '127.0.0.1', port: 0 })
    return { app, clock, url }
  }
  return { server, grounds, start }
}

type Running = Awaited<ReturnType<Awaited<ReturnType<typeof ready>>['start']>>

/** Waits until no request or connection reaches the upstream for 50 ms, for at most 12 rounds. */
async function quiet (server: FaultServer): Promise<void> {
  for (let round = 0; round < 24; round++) {
    const before = server.connections + server.requests.length
    await wait(75)
    if (server.connections + server.requests.length === before && server.pending === 0) return
  }
}

/** Returns the differences between the observation and the promise of the cell. */
function judge (
  cell: Cell,
  operation: UpstreamRequest,
  temperature: Temperature,
  seen: Observation | undefined,
  settled = true
): string[] {
  if ('notApplicable' in cell) return []
  const observed = describe(operation, seen)
  const labels = [...cell.outcomes, ...settled ? [] : cell.meanwhile ?? []].map(labelOf)
  return [
    ...labels.includes(observed) ? [] : [`${observed}, not ${labels.join(' or ')}`],
    ...seen !== undefined && seen.took > cell.limit + tolerance
      ? [`after ${Math.round(seen.took)} ms, not ${cell.limit}`]
      : [],
    ...faultsOf(operation, temperature, seen)
  ]
}

/**
 * Sends the request of a cell. Health is requested after a round of probes, and repeated while running loads may change
 * it.
 */
async function runCell (
  { app, url }: Running,
  cell: Cell,
  operation: UpstreamRequest
): Promise<Observation | undefined> {
  const expected = 'outcomes' in cell ? cell.outcomes.map(labelOf) : []
  if (operation === 'health') await app.health.start()
  for (let tries = 1; ; tries++) {
    const seen = await send(url, operation)
    if (operation !== 'health' || tries === 200 || expected.includes(describe(operation, seen))) return seen
    await wait(50)
  }
}

/** Closes the app; returns an error if it has connections to its upstream afterwards. */
async function ended (app: { close: () => PromiseLike<unknown> }, server: FaultServer): Promise<string[]> {
  await app.close()
  for (let round = 0; round < 20 && server.open > 0; round++) await wait(10)
  const left = server.open
  await server.close()
  return left === 0 ? [] : [`${left} connections left`]
}

/** A registry that is ready for its cells; `observe` sends their requests and closes it. */
interface Prepared { observe: () => Promise<Seen[]> }

/** Starts a registry during the fault, for one request and its repetition after the loads have ended. */
async function prepareCold (
  t: Test,
  setting: Setting,
  fault: FaultName,
  operation: UpstreamRequest
): Promise<Prepared> {
  const cell = table[fault][setting.source][operation].cold
  const { server, grounds, start } = await ready(t, setting)
  await faults[fault].begin(server, grounds)
  const running = await start()
  const { app } = running
  // The duration of the other instance is not part of the cell.
  for (const other of app.catalog.instances.filter(({ name }) => name !== instance)) {
    while (await (async () => await other.list(extensionTypes))().then(() => false, () => true)) await wait(20)
  }
  const observe = async () => {
    const first = await runCell(running, cell, operation)
    await quiet(server)
    // A crawl with endless pages takes time, and its result is unknown until then.
    const own = app.catalog.instances.find(({ name }) => name === instance)
    for (
      let round = 0; round < 200 && own?.failure === undefined && own?.peek('provider') === undefined; round++
    ) { await wait(50) }
    const second = await runCell(running, cell, operation)
    const again = judge(cell, operation, 'cold', second).map(problem => `repeated request: ${problem}`)
    return [{
      fault,
      operation,
      reported: describe(operation, second),
      problems: [...judge(cell, operation, 'cold', first, false), ...again, ...await ended(app, server)]
    }]
  }
  return { observe }
}

/** Starts a registry and fills its caches; returns undefined if the upstream was too slow, as on a busy machine. */
async function warmUp ({ start, server }: Awaited<ReturnType<typeof ready>>) {
  const begun = await start()
  for (const operation of operations) {
    for (
      let tries = 0; !['200', '200 healthy'].includes(describe(operation, await send(begun.url, operation))); tries++
    ) {
      if (tries === 5) return await begun.app.close()
      await wait(50)
      begun.clock.forward(1)
    }
  }
  await quiet(server)
  return begun
}

/** Starts a registry, fills its caches, and begins the fault. */
async function prepareWarm (t: Test, setting: Setting, fault: FaultName): Promise<Prepared> {
  const stage = await ready(t, setting)
  let begun: Awaited<ReturnType<typeof warmUp>>
  for (let tries = 0; tries < 10 && begun === undefined; tries++) begun = await warmUp(stage)
  if (begun === undefined) throw new Error(`${fault}: the upstream was never well`)
  const { server, grounds } = stage
  const running = begun
  const { app, clock, url } = running
  clock.forward(used)
  await faults[fault].begin(server, grounds)
  const observe = async () => {
    const problems: string[] = []
    for (const operation of operations) {
      const observed = describe(operation, await send(url, operation))
      if (operation !== 'download' && operation !== 'health' && observed !== '200') {
        problems.push(`while it was fresh, ${operation}: ${observed}`)
      }
    }
    await quiet(server)
    clock.forward(expired)
    const seen: Seen[] = []
    for (const operation of operations) {
      const cell = table[fault][setting.source][operation].warm
      const observation = await runCell(running, cell, operation)
      seen.push({
        fault,
        operation,
        reported: describe(operation, observation),
        problems: judge(cell, operation, 'warm', observation)
      })
      // A refresh of the previous request must not affect the next request.
      await quiet(server)
    }
    const [first] = seen
    first?.problems.push(...problems, ...await ended(app, server))
    return seen
  }
  return { observe }
}

/** Returns the registries of a fault in groups that are observed together. */
function groupsOf (t: Test, setting: Setting, fault: FaultName, temperature: Temperature) {
  if (temperature === 'warm') return [[async () => await prepareWarm(t, setting, fault)]]
  const prepare = (operation: UpstreamRequest) => async () => await prepareCold(t, setting, fault, operation)
  if ('alone' in faults[fault]) return operations.map(operation => [prepare(operation)])
  // Health is returned at once, and the loads of other registries would delay it.
  return [operations.filter(operation => operation !== 'health').map(prepare), [prepare('health')]]
}

/**
 * Observes every cell of one kind of upstream, cold or warm. All registries share one event loop. Therefore a group is
 * observed after all of it have started, and a response that must come at once is observed alone.
 */
async function observeMatrix (t: Test, setting: Setting, temperature: Temperature): Promise<Seen[]> {
  const seen: Seen[] = []
  for (const fault of faultNames) {
    for (const group of groupsOf(t, setting, fault, temperature)) {
      const prepared: Prepared[] = []
      for (const prepare of group) prepared.push(await prepare())
      seen.push(...(await Promise.all(prepared.map(async ({ observe }) => await observe()))).flat())
    }
    setWallClock(0)
  }
  return seen
}

/** Runs one half of the matrix, asserts the promises of the table, and returns the observations. */
export async function runMatrix (
  t: Test,
  source: Source,
  temperature: Temperature,
  upstream?: string
): Promise<Seen[]> {
  const rejections: unknown[] = []
  const reject = (reason: unknown) => { rejections.push(reason) }
  process.on('unhandledRejection', reject)
  let seen: Seen[] = []
  const handles = () => process.getActiveResourcesInfo().filter(name => /TCP|Worker|MessagePort/.test(name)).length
  const before = handles()
  await t.test('every request of the matrix ends without a request to another host', async t => {
    const setting = await createSetting(t, source, upstream)
    seen = await observeMatrix(t, setting, temperature)
    t.equal(setting.elsewhere.requests.length, 0, 'redirects to another host are not followed')
  })
  for (let round = 0; round < 100 && handles() > before; round++) await wait(10)
  t.equal(handles(), before, 'every handle is closed')
  process.off('unhandledRejection', reject)
  t.strictSame(rejections, [], 'every rejection is handled')
  for (const fault of faultNames) {
    await t.test(`${faults[fault].title}: ${source}, ${temperature}`, async t => {
      for (const { operation, problems } of seen.filter(cell => cell.fault === fault)) {
        t.strictSame(problems, [], operation)
      }
    })
  }
  return seen
}
