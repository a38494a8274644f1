import { setTimeout as wait } from 'node:timers/promises'
import pLimit from 'p-limit'
import type { Test } from 'tap'
import { extensionTypes } from '../../schemas/extension.ts'
import { startApp } from '../fakes/app.ts'
import type { FaultServer } from '../fakes/fault-server.ts'
import { ask } from './client.ts'
import { setWallClock } from './environment.ts'
import { faultNames, faults, type FaultName } from './faults.ts'
import { describe, faultsOf, instance, labelOf, type Observation } from './outcomes.ts'
import { createSetting, stand, type Setting } from './setting.ts'
import { questions, table, type Cell, type UpstreamRequest, type Source, type Temperature } from './table.ts'

/** What was seen of one cell: in a few words, and what of it breaks the promise. */
export interface Seen { fault: FaultName, question: UpstreamRequest, told: string, problems: string[] }

/** Milliseconds that the registry may need above a bound; less than one more wait for an upstream would take. */
const tolerance = 140
/** Cells that run at the same time. */
const together = 3
/** Seconds: nearly, and more than, what an entry is fresh for. */
const [used, expired] = [270, 40]

const ready = async (t: Test, setting: Setting) => {
  const { server, config, grounds } = await stand(setting)
  t.teardown(server.close)
  const start = async () => {
    const { app, clock } = await startApp(t, config, { probeTimeout: 250 })
    const url = await app.listen({ host: '127.0.0.1', port: 0 })
    return { app, clock, url }
  }
  return { server, grounds, start }
}

type Running = Awaited<ReturnType<Awaited<ReturnType<typeof ready>>['start']>>

/** Waits until the upstream is asked nothing more, or at least not for a moment. */
async function quiet (server: FaultServer): Promise<void> {
  for (let round = 0; round < 12; round++) {
    const before = server.connections + server.requests.length
    await wait(50)
    if (server.connections + server.requests.length === before && server.pending === 0) return
  }
}

/** What is not as the cell promises. */
function judge (
  cell: Cell,
  question: UpstreamRequest,
  temperature: Temperature,
  seen: Observation | undefined,
  settled = true
): string[] {
  if ('notApplicable' in cell) return []
  const told = describe(question, seen)
  const labels = [...cell.outcomes, ...settled ? [] : cell.meanwhile ?? []].map(labelOf)
  return [
    ...labels.includes(told) ? [] : [`${told}, not ${labels.join(' or ')}`],
    ...seen !== undefined && seen.took > cell.bound + tolerance
      ? [`after ${Math.round(seen.took)} ms, not ${cell.bound}`]
      : [],
    ...faultsOf(question, temperature, seen)
  ]
}

/**
 * Asks a cell's question; health after a round of probes, and as long as what began meanwhile may show another thing.
 */
async function askCell (
  { app, url }: Running,
  cell: Cell,
  question: UpstreamRequest
): Promise<Observation | undefined> {
  const wanted = 'outcomes' in cell ? cell.outcomes.map(labelOf) : []
  if (question === 'health') await app.health.start()
  for (let tries = 1; ; tries++) {
    const seen = await ask(url, question)
    if (question !== 'health' || tries === 200 || wanted.includes(describe(question, seen))) return seen
    await wait(50)
  }
}

/** After its end an app has no connection to its upstream, and begins none. */
async function ended (app: { close: () => PromiseLike<unknown> }, server: FaultServer): Promise<string[]> {
  await app.close()
  for (let round = 0; round < 20 && server.open > 0; round++) await wait(10)
  const left = server.open
  await server.close()
  return left === 0 ? [] : [`${left} connections left`]
}

/** Asks one question of a registry that began during the fault, and again when it has learnt what it could. */
async function cold (t: Test, setting: Setting, fault: FaultName, question: UpstreamRequest): Promise<Seen> {
  const cell = table[fault][setting.source][question].cold
  const { server, grounds, start } = await ready(t, setting)
  await faults[fault].begin(server, grounds)
  const running = await start()
  const { app } = running
  // How long the other instance takes is not what the cell is about.
  for (const other of app.catalog.instances.filter(({ name }) => name !== instance)) {
    while (await (async () => await other.list(extensionTypes))().then(() => false, () => true)) await wait(20)
  }
  const first = await askCell(running, cell, question)
  await quiet(server)
  // A walk over pages without end takes its time, and nothing is known before.
  const own = app.catalog.instances.find(({ name }) => name === instance)
  for (
    let round = 0; round < 200 && own?.failure === undefined && own?.peek('provider') === undefined; round++
  ) { await wait(50) }
  const second = await askCell(running, cell, question)
  const again = judge(cell, question, 'cold', second).map(problem => `asked again: ${problem}`)
  return {
    fault,
    question,
    told: describe(question, second),
    problems: [...judge(cell, question, 'cold', first, false), ...again, ...await ended(app, server)]
  }
}

/**
 * A registry that knows everything; undefined where its upstream was too slow to tell, as it may be on a busy machine.
 */
async function warmUp ({ start, server }: Awaited<ReturnType<typeof ready>>) {
  const begun = await start()
  for (const question of questions) {
    for (let tries = 0; !['200', '200 healthy'].includes(describe(question, await ask(begun.url, question))); tries++) {
      if (tries === 5) return await begun.app.close()
      await wait(50)
      begun.clock.forward(1)
    }
  }
  await quiet(server)
  return begun
}

const warming = pLimit(1)

/** Asks everything of a registry that knew all of it before the fault began. */
async function warm (t: Test, setting: Setting, fault: FaultName): Promise<Seen[]> {
  const stage = await ready(t, setting)
  let begun: Awaited<ReturnType<typeof warmUp>>
  for (let tries = 0; tries < 10 && begun === undefined; tries++) begun = await warming(async () => await warmUp(stage))
  if (begun === undefined) throw new Error(`${fault}: the upstream was never well`)
  const { server, grounds } = stage
  const { app, clock, url } = begun
  clock.forward(used)
  await faults[fault].begin(server, grounds)
  const problems: string[] = []
  for (const question of questions) {
    const told = describe(question, await ask(url, question))
    if (question !== 'download' && question !== 'health' && told !== '200') {
      problems.push(`while it was fresh, ${question}: ${told}`)
    }
  }
  await quiet(server)
  clock.forward(expired)
  const seen: Seen[] = []
  for (const question of questions) {
    const cell = table[fault][setting.source][question].warm
    const observation = await askCell(begun, cell, question)
    seen.push({
      fault,
      question,
      told: describe(question, observation),
      problems: judge(cell, question, 'warm', observation)
    })
    // Whether the next question finds the last one's refresh under way must not be a matter of luck.
    await quiet(server)
  }
  const [first] = seen
  first?.problems.push(...problems, ...await ended(app, server))
  return seen
}

const isAlone = (fault: FaultName): boolean => 'alone' in faults[fault]

/** Everything that is seen of one kind of upstream, cold or warm. */
async function observe (t: Test, setting: Setting, temperature: Temperature): Promise<Seen[]> {
  const [limit, one] = [pLimit(together), pLimit(1)]
  const cells = async (fault: FaultName): Promise<Seen[]> => {
    const turn = isAlone(fault) ? one : limit
    const works = temperature === 'warm'
      ? [async () => await warm(t, setting, fault)]
      : questions.map(question => async () => [await cold(t, setting, fault, question)])
    return (await Promise.all(works.map(async work => await turn(work)))).flat()
  }
  const seen = (await Promise.all(faultNames.filter(fault => !isAlone(fault)).map(cells))).flat()
  for (const fault of faultNames.filter(isAlone)) {
    seen.push(...await cells(fault))
    setWallClock(0)
  }
  return seen
}

/** Runs one half of the matrix, asserts that it is as the table has it, and gives what was seen. */
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
  await t.test('everything that the matrix asks is answered', async t => {
    const setting = await createSetting(t, source, upstream)
    seen = await observe(t, setting, temperature)
    t.equal(setting.elsewhere.requests.length, 0, 'nobody followed a redirect to another host')
  })
  for (let round = 0; round < 100 && handles() > before; round++) await wait(10)
  t.equal(handles(), before, 'no handle is left')
  process.off('unhandledRejection', reject)
  t.strictSame(rejections, [], 'no rejection was unhandled')
  for (const fault of faultNames) {
    await t.test(`${faults[fault].title}: ${source}, ${temperature}`, async t => {
      for (const { question, problems } of seen.filter(cell => cell.fault === fault)) {
        t.strictSame(problems, [], question)
      }
    })
  }
  return seen
}
