// Compares downloads with a docker-registry as a pull-through cache and with nginx `proxy_cache`: the first request of
// each file, and requests of stored files. `npm run bench:download [-- --quick] [--tree FOLDER]` prints the tables and
// writes them to docs/performance.md. `--tree` also measures the registry of another checkout, as `before`.
import { spawnSync } from 'node:child_process'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { table } from '../test/soak/report.ts'
import { chooseCores } from './cores.ts'
import { writePart } from './document.ts'
import { createServers, pushFiles, type DownloadServer, type FileSet } from './download-servers.ts'
import { describeMachine, describeVersions } from './machine.ts'
import { cpuSeconds, peakRss, start } from './process.ts'
import { median } from './statistics.ts'

const { values: { quick = false, tree } } = parseArgs({
  options: { quick: { type: 'boolean' }, tree: { type: 'string' } }
})
const rounds = quick ? 1 : 3
/** Seconds of one measurement of stored files. */
const seconds = quick ? 1 : 3
const [kib, mib] = [1024, 1024 ** 2]
/** Sizes and numbers of files, and the number of clients that request them. */
const sets = [
  { name: 'large', size: 64 * mib, count: 6, clients: 1 },
  { name: 'small', size: 8 * kib, count: quick ? 64 : 256, clients: 32 },
  { name: 'medium', size: 64 * kib, count: quick ? 64 : 256, clients: 32 },
  { name: 'mib', size: mib, count: 64, clients: 32 }
]
const cores = chooseCores()
const [onServer, onLoad] = [cores.server, cores.load].map(core => core === undefined ? {} : { core })

/** Result of one measurement. A rate is in MiB per second for large files, otherwise in requests per second. */
interface Measured { rate: number, cpuMs: number, peak: number }

const folder = await mkdtemp(join(tmpdir(), 'download-bench-'))
const servers = createServers(folder, { server: onServer ?? {}, load: onLoad ?? {} })

interface LoadResult { bytes: number, milliseconds: number, wrong: string[], times: number[] }

async function load ({ port, path }: DownloadServer, { files }: FileSet, clients: number, time: number) {
  const list = join(folder, 'paths.json')
  await writeFile(list, JSON.stringify(files.map(path)))
  const program = join(import.meta.dirname, 'load.ts')
  const process = start(globalThis.process.execPath, [program, `${port}`, `${clients}`, `${time}`, list], {
    ...onLoad,
    output: 'pipe'
  })
  const chunks: Buffer[] = []
  process.child.stdout?.on('data', (chunk: Buffer) => { chunks.push(chunk) })
  await process.end
  const result = JSON.parse(Buffer.concat(chunks).toString()) as LoadResult
  const { wrong } = result
  if (wrong.length > 0) {
    const kinds = [...new Set(wrong)].join(', ')
    throw new Error(`${wrong.length} responses of ${files[0]?.name ?? ''} were wrong: ${kinds}`)
  }
  return result
}

async function measure (server: DownloadServer, set: FileSet, clients: number, time: number): Promise<Measured> {
  const before = await cpuSeconds(server.program.pid)
  const { bytes, milliseconds, times } = await load(server, set, clients, time)
  const cpu = await cpuSeconds(server.program.pid) - before
  // One slow file must not decide the result of a few large ones.
  const rate = clients === 1 ? set.size / mib / (median(times) / 1000) : times.length / (milliseconds / 1000)
  return { rate, cpuMs: cpu * 1000 / (bytes / mib), peak: await peakRss(server.program.pid) }
}

const here = join(import.meta.dirname, '..')
const starters: Record<string, () => Promise<DownloadServer>> = {
  registry: async () => await servers.registry(here, true),
  'docker-registry': servers.pullThrough,
  nginx: servers.nginx,
  ...tree !== undefined && { before: async () => await servers.registry(tree, true) },
  'without a store': async () => await servers.registry(here, false)
}
const names = Object.keys(starters)

try {
  const upstream = await servers.upstream()
  const pushed: FileSet[] = []
  for (const { name, size, count } of sets) pushed.push(await pushFiles(upstream, name, size, count))
  const warmUp = await pushFiles(upstream, 'warm-up', 4 * mib, 8)

  const found = new Map<string, Measured[]>()
  for (let round = 0; round < rounds; round++) {
    // The order changes, so that no server is always the first one after another.
    const order = [...names.slice(round % names.length), ...names.slice(0, round % names.length)]
    for (const name of order) {
      const server = await starters[name]?.()
      if (server === undefined) continue
      await load(server, warmUp, 1, 0)
      for (const [at, set] of pushed.entries()) {
        const clients = sets[at]?.clients ?? 1
        for (const [kind, time] of [['first', 0], ['stored', seconds]] as const) {
          const key = `${set.name} ${kind} ${name}`
          found.set(key, [...found.get(key) ?? [], await measure(server, set, clients, time)])
        }
      }
      await servers.end(server)
    }
  }

  const of = (set: FileSet, kind: string, name: string) => found.get(`${set.name} ${kind} ${name}`) ?? []
  const ratio = (set: FileSet, kind: string, name: string): string =>
    median(of(set, kind, 'registry').map(({ rate }, at) => rate / (of(set, kind, name)[at]?.rate ?? NaN))).toFixed(2)
  const sizeOf = (size: number) => size < mib ? `${size / kib} KiB` : `${size / mib} MiB`
  const range = (values: number[]) =>
    `${median(values).toFixed(0)} (${Math.min(...values).toFixed(0)}–${Math.max(...values).toFixed(0)})`
  const head = ['Files', 'Clients', 'Unit', ...names, ...names.slice(1).map(name => `registry / ${name}`)]
  const lines: string[] = []
  for (const [kind, text] of [['first', 'First request of each file'], ['stored', 'Stored files']] as const) {
    lines.push(
      `${text}: rate, and its ratio in the same round.`,
      '',
      ...table(head, pushed.map((set, at) => [
        `${set.files.length} of ${sizeOf(set.size)}`,
        sets[at]?.clients ?? 1,
        sets[at]?.clients === 1 ? 'MiB/s' : 'requests/s',
        ...names.map(name => range(of(set, kind, name).map(({ rate }) => rate))),
        ...names.slice(1).map(name => ratio(set, kind, name))
      ])),
      '',
      'CPU time of the server in milliseconds for each MiB.',
      '',
      ...table(['Files', ...names], pushed.map(set => [
        sizeOf(set.size),
        ...names.map(name => median(of(set, kind, name).map(({ cpuMs }) => cpuMs)).toFixed(2))
      ])),
      ''
    )
  }
  const peaks = names.map(name =>
    `${name} ${(Math.max(...pushed.flatMap(set => of(set, 'stored', name).map(({ peak }) => peak))) / mib).toFixed(0)}`
  )
  const version = /v?\d+\.\d+[\d.]*/.exec(
    spawnSync('docker-registry', ['--version'], { encoding: 'utf8' }).output.join('')
  )?.[0] ?? 'unknown'
  const text = [
    `Measured by \`npm run bench:download${tree === undefined ? '' : ' -- --tree FOLDER'}\` on ` +
    `${new Date().toISOString().slice(0, 10)}: ${describeMachine()}; ` +
    `${describeVersions()}, docker-registry ${version}. Medians of ${rounds} rounds, with minimum and maximum; ` +
    `${seconds} s for stored files. ${
      cores.server === undefined
        ? 'Server, load and upstream share the cores.'
        : 'The measured server has one core; the load and the upstream share another.'
    }`,
    '',
    ...lines,
    `Peak RSS in MiB: ${peaks.join(', ')}.`
  ].join('\n')
  console.log(text)
  if (!quick) await writePart('downloads', text)
} finally {
  await servers.close()
}
