import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { imageCommand } from '../real/image-command.ts'
import { createGiteaFake } from '../fakes/gitea.ts'
import { createRegistryFake } from '../fakes/registry.ts'
import { createContent } from './content.ts'
import { createFlapping, createRandom } from './flapping.ts'
import { createLoad } from './load.ts'
import { growth, peakMemory, routeTable, table, type Sample } from './report.ts'

export interface SoakOptions {
  seconds: number
  seed: number
  names?: number
  clients?: number
  /** Maximum requests per second. */
  rate?: number
}

const root = resolve(import.meta.dirname, '../..')
/** Maximum number of reported reasons; one is enough to fail. */
const maxReasons = 20
/** Maximum milliseconds until the catalog is complete before the load, and healthy after it. */
const settling = 60_000

/**
 * Short times, so that entries expire and upstreams receive requests all the time. The cache is large enough to keep
 * all entries.
 */
const config = (gitea: string, registry: string): string => `
[server]
host = "127.0.0.1"
port = 0
shutdown_delay_seconds = 0
request_budget_seconds = 3
max_event_loop_delay_seconds = 0
[cache]
capacity = 10000
ttl_seconds = 3
stale_if_error_seconds = 3600
negative_ttl_seconds = 1
[gitea]
url = "${gitea}"
organization = "provisioning"
timeout_seconds = 0.5
[oci]
registry = "${registry}"
namespace = "provisioning"
timeout_seconds = 0.5
`

/** Runs the command of the image with a configuration file; resolves when it listens. */
async function startRegistry (file: string) {
  const { args, env } = imageCommand()
  // NODE_OPTIONS of tap would load its hooks, and their source maps would count as memory of the registry.
  const child = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, ...args, '--config', file], {
    cwd: root,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const exit = once(child, 'exit').then(([code, signal]: Array<number | string | null>) => code ?? signal ?? null)
  const fatal: string[] = []
  createInterface(child.stderr).on('line', line => { if (fatal.length < maxReasons) fatal.push(line) })
  const address = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).on('line', line => {
      if (/"level":[56]0/.test(line) && fatal.length < maxReasons) fatal.push(line)
      const listening = /"msg":"Server listening at (http:\/\/127\.0\.0\.1:\d+)"/.exec(line)?.[1]
      if (listening !== undefined) resolve(listening)
    })
    exit.then(code => { reject(new Error(`the registry exited with ${code}`)) }, reject)
  })
  return {
    address,
    fatal,
    exit,
    kill: (signal: NodeJS.Signals): void => { child.kill(signal) }
  }
}

async function eventually (operation: () => Promise<boolean>): Promise<boolean> {
  for (const end = performance.now() + settling; performance.now() < end; await sleep(250)) {
    if (await operation()) return true
  }
  return false
}

/**
 * Runs the registry process with two flapping upstreams under a mixed load. `reasons` is empty when all requirements
 * were met, and `lines` is the table in Markdown.
 */
export async function soak (
  { seconds, seed, names = 1000, clients = 16, rate = 80 }: SoakOptions
): Promise<{ lines: string[], reasons: string[] }> {
  const reasons: string[] = []
  const fail = (reason: string): void => { if (reasons.length < maxReasons) reasons.push(reason) }
  const content = createContent(names)
  const upstreams = [await createGiteaFake(content.gitea), await createRegistryFake(content.registry)] as const
  const flappings = upstreams.map((upstream, at) => createFlapping(upstream, seed + at + 1))
  const folder = await mkdtemp(join(tmpdir(), 'soak-'))
  await writeFile(join(folder, 'config.toml'), config(upstreams[0].url, upstreams[1].url))
  const registry = await startRegistry(join(folder, 'config.toml'))
  const load = createLoad({ url: registry.address, expected: content.expected, random: createRandom(seed), fail })
  const samples: Sample[] = []
  try {
    if (!await eventually(load.whole)) throw new Error('The catalog was never complete before the load')
    for (const flapping of flappings) flapping.start()
    const began = performance.now()
    const until = began + seconds * 1000
    const watch = async (): Promise<void> => {
      for (; performance.now() < until; await sleep(1000)) {
        const metric = await load.metrics()
        samples.push({
          at: (performance.now() - began) / 1000,
          rss: metric('process_resident_memory_bytes'),
          heap: metric('nodejs_heap_size_used_bytes'),
          files: metric('process_open_fds'),
          handles: metric('nodejs_active_handles_total')
        })
      }
    }
    // Without the process every request fails, so its end is reported as the reason.
    const early = registry.exit.then(code => {
      throw new Error(`the registry exited with ${code} under load: ${registry.fatal.join('\n')}`)
    })
    const work = Promise.all([load.run({ clients, rate, until }), watch()])
    work.catch(() => {})
    early.catch(() => {})
    await Promise.race([
      work.catch(async error => {
        await Promise.race([early, sleep(1000)])
        throw error
      }),
      early
    ])
    await Promise.all(flappings.map(async ({ stop }) => {
      await stop()
    }))
    if (!await eventually(async () => await load.health() === 'healthy')) {
      fail('health is not healthy after the last fault')
    }
    if (!await eventually(load.whole)) fail('the list is not complete after the last fault')
    registry.kill('SIGTERM')
    const code = await registry.exit
    if (code !== 0) fail(`the registry exited with ${code}`)
  } finally {
    registry.kill('SIGKILL')
    load.close()
    for (const flapping of flappings) await flapping.stop()
    for (const upstream of upstreams) await upstream.close()
    await rm(folder, { recursive: true })
  }
  for (const line of registry.fatal) fail(`logged: ${line}`)
  const { rows, grown } = growth(samples)
  grown.forEach(fail)
  const peak = peakMemory(samples)
  if (peak.reason !== undefined) fail(peak.reason)
  const total = [...load.tallies.values()].reduce((sum, { times }) => sum + times.length, 0)
  return {
    reasons,
    lines: [
      `${seconds} s, seed ${seed}, ${names} names, ${clients} clients, at most ${rate} requests a second: ${total} ` +
        'requests',
      '',
      ...routeTable(load.tallies),
      '',
      ...table(
        ['Upstream', 'Requests that reached it', 'Faults'],
        flappings.map((flapping, at) => [
          ['gitea', 'oci'][at] ?? '',
          flapping.requests(),
          [...flapping.seen()].filter(([mood]) => mood !== 'healthy').map(([mood, times]) => `${mood} ${times}`).join(
            ', '
          )
        ])
      ),
      '',
      ...table(['Process', 'First third', 'Last third', 'Allowed'], rows),
      '',
      peak.line
    ]
  }
}
