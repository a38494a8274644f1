import { spawnSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'smol-toml'
import { writeLayout } from '../test/fakes/layout.ts'
import type { chooseCores } from './cores.ts'
import { nginxPath, writeNginx } from './nginx.ts'
import { freePort, listening, start, startFlags, type Running } from './process.ts'
import { header, record, type Recorded } from './recording.ts'
import { extensions, type Scenario } from './scenarios.ts'
import { describe } from './words.ts'

/** Measured server. */
export interface Target {
  name: TargetName
  port: number
  running: Running
  /** Returns the path at which this server has the response for a path of the registry. */
  at: (path: string) => string
}
export type TargetName = 'node:http' | 'Fastify' | 'Fastify, logging' | 'nginx' | 'registry' | 'registry, logging'

export interface Setting {
  folder: string
  cores: ReturnType<typeof chooseCores>
  /** Directory into which the registries write CPU profiles when they end. */
  profile?: string
}

/** Seconds for which listings are fresh while refreshes are measured; the default is five minutes. */
export const refreshingTtl = 20
/** Seconds after which a request starts a refresh. */
export const refreshAfter = refreshingTtl * 0.8
/** Seconds of a measurement with refreshes. */
export const refreshingSeconds = 5

/** Bare servers of Node.js, with their names for `bare.ts`. */
const bareKinds = [['node:http', 'http'], ['Fastify', 'fastify'], ['Fastify, logging', 'fastify-logging']] as const

const same = (path: string): string => path
const root = join(import.meta.dirname, '..')

async function firstLine ({ child, end }: Running): Promise<string> {
  const line = new Promise<string>(resolve => {
    child.stdout?.once('data', (chunk: Buffer) => {
      resolve(chunk.toString().trim())
    })
  })
  return await Promise.race([
    line,
    end.then(code => {
      throw new Error(`A program ended with ${code} without output`)
    })
  ])
}

/**
 * Starts the upstreams of the registries: a Gitea in a separate process on the core of the load, and image layouts.
 * Half of the names in the layouts exist in Gitea too.
 */
export async function startUpstreams ({ folder, cores }: Setting): Promise<{ gitea: string, oci: string }> {
  const upstream = start(process.execPath, [join(import.meta.dirname, 'upstream.ts'), String(extensions)], {
    output: 'pipe',
    ...(cores.load !== undefined && { core: cores.load })
  })
  const oci = join(folder, 'oci')
  await writeLayout(
    oci,
    Array.from({ length: 40 }, (_, at) => describe(extensions - 20 + at))
      .map(({ type, name, description }) => ({
        repository: `${type}/${name}`,
        tag: '1.0.0',
        annotations: { 'org.opencontainers.image.description': description }
      }))
  )
  return { gitea: `http://127.0.0.1:${await firstLine(upstream)}`, oci }
}

/** Starts the registry with default settings over these upstreams. */
export async function startRegistry (
  { folder, cores, profile }: Setting,
  upstreams: { gitea: string, oci: string },
  { logging, refreshing = false }: { logging: boolean, refreshing?: boolean }
): Promise<Target> {
  const name = logging ? 'registry, logging' : 'registry'
  const port = await freePort()
  const own = join(folder, `registry-${port}`)
  await mkdir(own)
  const file = join(own, 'config.toml')
  await writeFile(
    file,
    stringify({
      server: { host: '127.0.0.1', port, shutdown_delay_seconds: 0 },
      log: { level: logging ? 'info' : 'silent' },
      store: { directory: join(own, 'store') },
      ...(refreshing && { cache: { ttl_seconds: refreshingTtl } }),
      gitea: { url: upstreams.gitea, organization: 'extensions' },
      oci: { registry: upstreams.oci }
    })
  )
  const flags = profile === undefined
    ? []
    : [
        '--cpu-prof',
        '--cpu-prof-dir',
        profile,
        '--cpu-prof-name',
      `${name.replace(', ', '-')}${refreshing ? '-refreshing' : ''}.cpuprofile`
      ]
  const running = start(
    process.execPath,
    [...startFlags, ...flags, join(root, 'server.ts'), '--config', file],
    cores.server === undefined ? {} : { core: cores.server }
  )
  await listening(port, running, 60_000)
  const target = { name, port, running, at: same } as const
  await settle(target)
  return target
}

/** Waits until the server responds to a list from its cache. */
export async function settle ({ port }: Target): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    const response = await record(port, '/api/v1/extensions?limit=1')
    if (
      response.status === 200 && header(response, 'x-cache-hit') === 'true' &&
      Number(header(response, 'x-total-count')) >= extensions
    ) return
    await sleep(100)
  }
  throw new Error('The catalog cannot be read')
}

/** Records the responses of the registry to every request of the scenarios. */
export async function recordResponses ({ port }: Target, scenarios: readonly Scenario[]): Promise<Recorded[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 })
  const responses = new Map<string, Recorded>()
  for (const { paths, conditional = false } of scenarios) {
    for (const path of new Set(paths)) {
      const first = await record(port, path, { agent })
      const etag = header(first, 'etag')
      // A response that needed the upstream is recorded again from the cache.
      const again = header(first, 'x-cache-hit') === 'false' || conditional
      const response = again
        ? await record(port, path, {
          agent,
          ...(conditional && etag !== undefined && { headers: { 'if-none-match': etag } })
        })
        : first
      if (response.status !== (conditional ? 304 : 200)) throw new Error(`${path} returned ${response.status}`)
      responses.set(path, response)
    }
  }
  agent.destroy()
  return [...responses.values()]
}

/** Starts servers that only serve the recorded bytes. */
export async function startBare (
  { folder, cores }: Setting,
  recorded: readonly Recorded[],
  scenarios: readonly Scenario[]
): Promise<Target[]> {
  const core = cores.server === undefined ? {} : { core: cores.server }
  const file = join(folder, 'responses.json')
  await writeFile(file, JSON.stringify(recorded))
  const targets: Target[] = []
  for (const [name, kind] of bareKinds) {
    const port = await freePort()
    const running = start(
      process.execPath,
      [...startFlags, join(import.meta.dirname, 'bare.ts'), kind, String(port), file],
      core
    )
    await listening(port, running)
    targets.push({ name, port, running, at: same })
  }
  if (spawnSync('nginx', ['-v']).error === undefined) {
    const port = await freePort()
    // nginx evaluates If-None-Match itself, so it needs a complete response.
    const whole = new Set(scenarios.filter(({ conditional }) => conditional).flatMap(({ paths }) => paths))
    const files = await Promise.all(
      recorded.map(async response =>
        whole.has(response.path) ? { ...recorded[0] ?? response, path: response.path } : response
      )
    )
    const running = start('nginx', ['-c', await writeNginx(folder, port, files)], core)
    await listening(port, running)
    const numbers = new Map(recorded.map(({ path }, number) => [path, number]))
    targets.push({ name: 'nginx', port, running, at: path => nginxPath(numbers.get(path) ?? -1) })
  }
  return targets
}
