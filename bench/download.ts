// Compares downloads: from the store with nginx and the same file, and uncached with a direct download from a
// docker-registry. `npm run bench:download [-- --quick]` prints the table and writes it to docs/performance.md.
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { table } from '../test/soak/report.ts'
import { chooseCores } from './cores.ts'
import { writePart } from './document.ts'
import { describeMachine, describeVersions } from './machine.ts'
import { freePort, listening, peakRss, start, startFlags, stop, type Running } from './process.ts'
import { median } from './statistics.ts'

const { values: { quick = false } } = parseArgs({ options: { quick: { type: 'boolean' } } })
const rounds = quick ? 1 : 3
/** Seconds of one measurement. A file in progress is aborted at the end, and its bytes so far count. */
const seconds = quick ? 2 : 3
const mib = 1024 ** 2
const sizes = quick ? [8 * mib, 256 * mib] : [8 * mib, 1024 * mib]
const clients = [1, 32]
const cores = chooseCores()
const [onServer, onLoad] = [cores.server, cores.load].map(core => core === undefined ? {} : { core })

interface Measured { rate: number, peak: number }
const folder = await mkdtemp(join(tmpdir(), 'download-bench-'))
const started: Running[] = []

async function run (command: string, args: string[], port: number, env: Record<string, string> = {}): Promise<Running> {
  const program = start(command, args, { ...onServer, env })
  started.push(program)
  await listening(port, program)
  return program
}

async function writeFileOf (path: string, size: number): Promise<string> {
  const hash = createHash('sha256')
  const file = await open(path, 'w')
  for (let left = size; left > 0; left -= mib) {
    const piece = randomBytes(mib)
    hash.update(piece)
    await file.write(piece)
  }
  await file.close()
  return `sha256:${hash.digest('hex')}`
}

/** Pushes a file as the only version of an extension. */
async function push (url: string, name: string, path: string, digest: string, size: number): Promise<void> {
  const base = `${url}/v2/provisioning/provider/${name}`
  const upload = async (digest: string, body: string[]) => {
    const { headers } = await fetch(`${base}/blobs/uploads/`, { method: 'POST' })
    const to = new URL(headers.get('location') ?? '', url)
    to.searchParams.set('digest', digest)
    execFileSync('curl', ['-sSf', '-X', 'PUT', '-H', 'content-type: application/octet-stream', ...body, to.href])
  }
  const emptyDigest = `sha256:${createHash('sha256').update('{}').digest('hex')}`
  await upload(digest, ['-T', path])
  await upload(emptyDigest, ['--data-binary', '{}'])
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const manifest = {
    schemaVersion: 2,
    mediaType,
    artifactType: 'application/vnd.example',
    config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: emptyDigest, size: 2 },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest, size }]
  }
  const response = await fetch(`${base}/manifests/1.0.0`, {
    method: 'PUT',
    headers: { 'content-type': mediaType },
    body: JSON.stringify(manifest)
  })
  if (!response.ok) throw new Error(`The registry did not accept ${name}: ${response.status}`)
}

async function measure (port: number, path: string, count: number, time: number): Promise<number> {
  const load = start(process.execPath, [
    join(import.meta.dirname, 'load.ts'),
    String(port),
    path,
    String(count),
    String(time)
  ], { ...onLoad, output: 'pipe' })
  const chunks: Buffer[] = []
  load.child.stdout?.on('data', (chunk: Buffer) => { chunks.push(chunk) })
  await load.end
  const { bytes, milliseconds, wrong } = JSON.parse(Buffer.concat(chunks).toString()) as {
    bytes: number,
    milliseconds: number,
    wrong: number
  }
  if (wrong > 0) throw new Error(`${wrong} downloads of ${path} were incomplete`)
  return bytes / mib / (milliseconds / 1000)
}

try {
  const files = join(folder, 'files')
  await mkdir(files)
  const [nginxPort, dockerPort] = [await freePort(), await freePort()]
  await writeFile(
    join(folder, 'nginx.conf'),
    `daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log /dev/null; ${
      process.getuid?.() === 0 ? 'user root;' : ''
    }
events { worker_connections 256; }
http { access_log off; sendfile on; tcp_nopush on;
client_body_temp_path ${folder}/a; proxy_temp_path ${folder}/b; fastcgi_temp_path ${folder}/c;
uwsgi_temp_path ${folder}/d; scgi_temp_path ${folder}/e;
server { listen 127.0.0.1:${nginxPort}; root ${files}; } }`
  )
  await writeFile(
    join(folder, 'registry.yml'),
    JSON.stringify({
      version: 0.1,
      log: { level: 'error', accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: join(folder, 'registry') }, cache: { blobdescriptor: 'inmemory' } },
      http: { addr: `127.0.0.1:${dockerPort}` }
    })
  )
  await run('nginx', ['-c', join(folder, 'nginx.conf')], nginxPort)
  const docker = `http://127.0.0.1:${dockerPort}`
  // The upstream runs on the core of the load, so that its work does not slow the measured server.
  const registry = start('docker-registry', ['serve', join(folder, 'registry.yml')], {
    ...onLoad,
    env: { OTEL_TRACES_EXPORTER: 'none' }
  })
  started.push(registry)
  await listening(dockerPort, registry)
  const contents: Array<{ name: string, size: number, digest: string }> = []
  for (const size of sizes) {
    const name = `file${size / mib}`
    const digest = await writeFileOf(join(files, name), size)
    await push(docker, name, join(files, name), digest, size)
    contents.push({ name, size, digest })
  }

  let stores = 0
  /** Starts the registry with its own empty store, or without a store. */
  async function registryOf (stored: boolean): Promise<{ program: Running, port: number }> {
    const port = await freePort()
    const program = await run(process.execPath, [...startFlags, 'server.ts'], port, {
      REGISTRY_SERVER_HOST: '127.0.0.1',
      REGISTRY_SERVER_PORT: String(port),
      REGISTRY_SERVER_SHUTDOWN_DELAY_SECONDS: '0',
      REGISTRY_LOG_LEVEL: 'warn',
      REGISTRY_OCI_REGISTRY: docker,
      REGISTRY_OCI_NAMESPACE: 'provisioning',
      REGISTRY_STORE_ENABLED: String(stored),
      REGISTRY_STORE_DIRECTORY: join(folder, `store${stores++}`)
    })
    await (await fetch(`http://127.0.0.1:${port}/api/v1/extensions`)).arrayBuffer()
    return { program, port }
  }

  const rows: Array<Array<string | number>> = []
  for (const { name, size, digest } of contents) {
    const route = `/api/v1/extensions/provider/${name}/1.0.0`
    const direct = `/v2/provisioning/provider/${name}/blobs/${digest}`
    for (const count of clients) {
      const found = new Map<string, Measured[]>()
      const note = (what: string, rate: number, peak = 0) => {
        found.set(what, [...found.get(what) ?? [], { rate, peak }])
      }
      for (let round = 0; round < rounds; round++) {
        note('nginx', await measure(nginxPort, `/${name}`, count, seconds))
        const warm = await registryOf(true)
        // The first download fills the store; the next one is served from it.
        note('cold', await measure(warm.port, route, 1, 0), await peakRss(warm.program.pid))
        note('store', await measure(warm.port, route, count, seconds), await peakRss(warm.program.pid))
        await stop(warm.program)
        note('direct', await measure(dockerPort, direct, count, seconds))
        const bare = await registryOf(false)
        note('passed', await measure(bare.port, route, count, seconds), await peakRss(bare.program.pid))
        await stop(bare.program)
        for (let old = 0; old < stores; old++) await rm(join(folder, `store${old}`), { recursive: true, force: true })
      }
      const rate = (what: string) => median((found.get(what) ?? []).map(({ rate }) => rate))
      const peak = (what: string) => Math.max(...(found.get(what) ?? []).map(({ peak }) => peak)) / mib
      const pairs = [['store', 'nginx', 'from the store / nginx'], [
        'passed',
        'direct',
        'uncached, without a store / docker-registry'
      ], ['cold', 'direct', 'uncached, into the store / docker-registry']] as const
      for (const [what, other, text] of pairs) {
        if (what === 'cold' && count > 1) continue
        rows.push([
          text,
          `${size / mib} MiB`,
          count,
          rate(what).toFixed(0),
          rate(other).toFixed(0),
          (rate(what) / rate(other)).toFixed(2),
          peak(what).toFixed(0)
        ])
      }
    }
  }

  const registryVersion =
    /v?\d+\.\d+[\d.]*/.exec(spawnSync('docker-registry', ['--version'], { encoding: 'utf8' }).output.join(''))?.[0] ??
      'unknown'
  const lines = [
    `Measured by \`npm run bench:download\` on ${new Date().toISOString().slice(0, 10)}: ${describeMachine()}; ` +
    `${describeVersions()}, docker-registry ${registryVersion}. ` +
    `Medians of ${rounds} interleaved round${rounds === 1 ? '' : 's'} of ${seconds} s each.`,
    cores.server !== undefined
      ? 'The measured server has one core; the load and the upstream share another.'
      : 'Server, load and upstream share the cores.',
    '',
    ...table(
      ['Measured / compared with', 'File', 'Clients', 'MiB/s', 'MiB/s of the other', 'Ratio', 'Peak RSS (MiB)'],
      rows
    )
  ]
  console.log(lines.join('\n'))
  if (!quick) await writePart('downloads', lines.join('\n'))
} finally {
  await Promise.all(started.map(async program => { await stop(program) }))
  await rm(folder, { recursive: true, force: true })
}
