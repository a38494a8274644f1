import { createHash, randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort, listening, start, startFlags, stop, type Running, type StartOptions } from './process.ts'

/** Files of the same size, which are requested in one measurement. */
export interface FileSet { name: string, size: number, files: BenchFile[] }

/** A file of random bytes: the only version of one extension, and a blob of the upstream. */
export interface BenchFile { name: string, digest: string }

/** A running server, and the path at which it has a file. */
export interface DownloadServer { program: Running, port: number, path: (file: BenchFile) => string }

const sha256 = (content: Buffer): string => `sha256:${createHash('sha256').update(content).digest('hex')}`
const repositoryOf = ({ name }: BenchFile) => `provisioning/provider/${name}`
const blobPath = (file: BenchFile): string => `/v2/${repositoryOf(file)}/blobs/${file.digest}`

const withoutTraces = { OTEL_TRACES_EXPORTER: 'none' }

function registryConfiguration (port: number, directory: string, more: object = {}): string {
  return JSON.stringify({
    version: 0.1,
    log: { level: 'error', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: directory }, cache: { blobdescriptor: 'inmemory' } },
    http: { addr: `127.0.0.1:${port}` },
    ...more
  })
}

async function upload (base: string, content: Buffer, digest: string): Promise<void> {
  const { headers } = await fetch(`${base}/blobs/uploads/`, { method: 'POST' })
  const to = new URL(headers.get('location') ?? '', base)
  to.searchParams.set('digest', digest)
  const response = await fetch(to, {
    method: 'PUT',
    headers: { 'content-type': 'application/octet-stream' },
    body: new Uint8Array(content)
  })
  if (!response.ok) throw new Error(`The registry did not accept a blob: ${response.status}`)
}

/** Pushes a random file as the only version of an extension. */
async function push (upstream: string, name: string, size: number): Promise<BenchFile> {
  const content = randomBytes(size)
  const file = { name, digest: sha256(content) }
  const base = `${upstream}/v2/${repositoryOf(file)}`
  await upload(base, content, file.digest)
  const config = Buffer.from('{}')
  await upload(base, config, sha256(config))
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const layer = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: file.digest, size }
  const response = await fetch(`${base}/manifests/1.0.0`, {
    method: 'PUT',
    headers: { 'content-type': mediaType },
    body: JSON.stringify({
      schemaVersion: 2,
      mediaType,
      artifactType: 'application/vnd.example',
      config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: sha256(config), size: 2 },
      layers: [layer]
    })
  })
  if (!response.ok) throw new Error(`The registry did not accept ${name}: ${response.status}`)
  return file
}

/** Pushes `count` random files of `size` bytes. */
export async function pushFiles (upstream: string, name: string, size: number, count: number): Promise<FileSet> {
  const files: BenchFile[] = []
  for (let at = 0; at < count; at++) files.push(await push(upstream, `${name}-${at}`, size))
  return { name, size, files }
}

/**
 * Creates the starters of the measured servers: each start has its own empty cache below `folder`. `server` are the
 * options of the measured servers, `load` those of the upstream.
 */
export function createServers (
  folder: string,
  { server, load }: { server: StartOptions, load: StartOptions }
) {
  const started = new Set<Running>()
  let directories = 0
  let upstreamUrl = ''

  async function run (
    command: string,
    args: string[],
    port: number,
    options: StartOptions
  ): Promise<Running> {
    const program = start(command, args, options)
    started.add(program)
    await listening(port, program)
    return program
  }

  /** Returns a new empty directory. */
  async function directory (): Promise<string> {
    const path = join(folder, `cache-${directories++}`)
    await mkdir(path)
    return path
  }

  /** Starts the docker-registry that has the files; returns its address. */
  async function upstream (): Promise<string> {
    const [port, path] = [await freePort(), await directory()]
    const configuration = join(path, 'registry.yml')
    await writeFile(configuration, registryConfiguration(port, join(path, 'content')))
    await run('docker-registry', ['serve', configuration], port, { ...load, env: withoutTraces })
    upstreamUrl = `http://127.0.0.1:${port}`
    return upstreamUrl
  }

  /** Starts a docker-registry as a pull-through cache. */
  async function pullThrough (): Promise<DownloadServer> {
    const [port, path] = [await freePort(), await directory()]
    const configuration = join(path, 'registry.yml')
    await writeFile(
      configuration,
      registryConfiguration(port, join(path, 'content'), { proxy: { remoteurl: upstreamUrl } })
    )
    const program = await run('docker-registry', ['serve', configuration], port, { ...server, env: withoutTraces })
    return { program, port, path: blobPath }
  }

  /** Starts an nginx with `proxy_cache` and one worker process. */
  async function nginx (): Promise<DownloadServer> {
    const [port, path] = [await freePort(), await directory()]
    const configuration = join(path, 'nginx.conf')
    await writeFile(configuration, `daemon off; master_process off; pid ${path}/pid; error_log stderr crit;
events { worker_connections 256; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path ${path}/body; proxy_temp_path ${path}/proxy; fastcgi_temp_path ${path}/fastcgi;
  uwsgi_temp_path ${path}/uwsgi; scgi_temp_path ${path}/scgi;
  proxy_cache_path ${path}/cache keys_zone=files:10m max_size=20g use_temp_path=off;
  upstream registry { server ${new URL(upstreamUrl).host}; keepalive 32; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://registry; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache files; proxy_cache_valid 200 1h; proxy_cache_lock on; proxy_max_temp_file_size 4096m;
    }
  }
}
`)
    const program = await run('nginx', ['-c', configuration], port, server)
    return { program, port, path: blobPath }
  }

  /** Starts the registry of the tree at `tree`, with or without a store, and waits for its first list. */
  async function registry (tree: string, stored: boolean): Promise<DownloadServer> {
    const [port, path] = [await freePort(), await directory()]
    const program = await run(process.execPath, [...startFlags, 'server.ts'], port, {
      ...server,
      cwd: tree,
      env: {
        REGISTRY_SERVER_HOST: '127.0.0.1',
        REGISTRY_SERVER_PORT: String(port),
        REGISTRY_SERVER_SHUTDOWN_DELAY_SECONDS: '0',
        REGISTRY_SERVER_REQUEST_BUDGET_SECONDS: '120',
        // The load uses the whole core, and a refused request would not be a result.
        REGISTRY_SERVER_MAX_EVENT_LOOP_DELAY_SECONDS: '0',
        REGISTRY_LOG_LEVEL: 'warn',
        REGISTRY_OCI_REGISTRY: upstreamUrl,
        REGISTRY_OCI_NAMESPACE: 'provisioning',
        REGISTRY_STORE_ENABLED: String(stored),
        REGISTRY_STORE_DIRECTORY: path
      }
    })
    await (await fetch(`http://127.0.0.1:${port}/api/v1/extensions`)).arrayBuffer()
    return { program, port, path: ({ name }) => `/api/v1/extensions/provider/${name}/1.0.0` }
  }

  /** Ends a server. */
  async function end ({ program }: DownloadServer): Promise<void> {
    await stop(program)
    started.delete(program)
  }

  /** Ends all servers, and removes their files. */
  async function close (): Promise<void> {
    await Promise.all([...started].map(async program => { await stop(program) }))
    await rm(folder, { recursive: true, force: true })
  }

  return { upstream, pullThrough, nginx, registry, end, close }
}
