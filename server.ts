#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { enableCompileCache, findPackageJSON } from 'node:module'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { getSystemErrorMessage, parseArgs } from 'node:util'
import type { FastifyInstance } from 'fastify'
import type { LoadedConfig } from './lib/config/load.ts'
import { cacheHome } from './plugins/downloads/store/directory.ts'

// Modules that are loaded below are compiled once and cached on disk, so that later starts are faster. The cache is in
// a directory of this user, because other users could write to Node's default directory, and so run their code here.
const compiled = process.env.NODE_COMPILE_CACHE ||
  (home => home && join(home, 'extension-registry', 'compiled'))(cacheHome())
if (compiled) enableCompileCache(compiled)
const { default: closeWithGrace } = await import('close-with-grace')
const { default: Fastify } = await import('fastify')
const { default: fp } = await import('fastify-plugin')
const { createLogStream } = await import('./lib/log-stream.ts')
const { default: registry, serverOptions } = await import('./app.ts')
const { checkDockerConfig } = await import('./backends/oci/registry/credentials.ts')
const { ConfigError, formatKey } = await import('./lib/config/parse.ts')
const { checkFiles } = await import('./lib/config/files.ts')
const { loadConfig } = await import('./lib/config/load.ts')
const { isRegistryAddress } = await import('./schemas/upstreams.ts')
const { listenHost } = await import('./lib/host-name.ts')
const { unknownRoutes } = await import('./plugins/errors.ts')

const help = `Usage: extension-registry [--config FILE] [--check-config]

Serves one catalog over the configured Gitea organisations and OCI registries.

  --config FILE   TOML file, also set by REGISTRY_CONFIG. REGISTRY_* variables have priority over it
  --check-config  only check the configuration: print OK, or one line with the problem
  --version       print the version
  --help          print this help

Exit codes: 0 stopped or checked, 1 failed, 64 invalid option, 78 invalid configuration.
`

/** Maximum milliseconds that the start waits for the first probe of every instance. */
const firstRoundLimitMs = 2000
/** Milliseconds after the end of listening until connections without a request are closed. */
const unusedGraceMs = 1000
/** Maximum milliseconds for requests in progress after the end of listening. */
const closeGraceMs = 25_000
/**
 * Maximum bytes of log lines that wait to be written. Further lines are dropped, so that a reader that does not read
 * cannot stop the service.
 */
const unreadLog = 64 * 1024 * 1024
/** Maximum milliseconds that the exit waits until the last log lines are written. */
const lastLines = 1000

/** Prints one line on standard error and ends the process at once. */
function fail (exitCode: number, line: string): never {
  console.error(line)
  process.exit(exitCode)
}

function readOptions () {
  try {
    return parseArgs({
      options: {
        config: { type: 'string' },
        'check-config': { type: 'boolean' },
        version: { type: 'boolean' },
        help: { type: 'boolean' }
      }
    }).values
  } catch (error) {
    return fail(64, `${error instanceof Error ? error.message.split('. ', 1)[0] : error}; see --help`)
  }
}

function version (): string {
  const { version } = JSON.parse(readFileSync(findPackageJSON(import.meta.url) ?? '', 'utf8')) as { version: string }
  return version
}

function describeListenError (error: unknown): string {
  if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') {
    return getSystemErrorMessage(error.errno)
  }
  return error instanceof Error ? error.message : String(error)
}

/**
 * Listens on an address. On a machine without IPv6, `::` falls back to IPv4, so that one Kubernetes manifest is valid
 * for every cluster.
 */
async function listen (app: FastifyInstance, host: string, port: number): Promise<void> {
  try {
    await app.listen({ host, port })
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (host !== '::' || (code !== 'EAFNOSUPPORT' && code !== 'EADDRNOTAVAIL')) throw error
    app.log.warn({ host, code }, 'IPv6 is not available on this machine: listening on 0.0.0.0 instead')
    await app.listen({ host: '0.0.0.0', port })
  }
}

async function serve ({ config, embedded }: LoadedConfig): Promise<void> {
  // Log lines are written in the background, several at a time. The remaining lines are written before the exit.
  const output = createLogStream({ fd: 1, maxUnread: unreadLog })
  const { http, ...options } = serverOptions(config)
  // With `optimizeEmptyRequests`, a request without a body never emits `end`, and a body parser would wait for it. The
  // parsers are removed, because no route here reads a body; a host may have such routes.
  // At level `silent` the logger is off, because Fastify would otherwise create a child logger for each request.
  const logger = config.log.level !== 'silent' && { level: config.log.level, stream: output }
  const app = Fastify({ ...options, http: { ...http, optimizeEmptyRequests: true }, logger })
  app.removeAllContentTypeParsers()
  if (embedded) {
    app.log.info('no backend is configured by file or environment: serving the embedded examples')
  }

  const { host, port, shutdown_delay_seconds: shutdownDelay } = config.server
  let stopping = false

  closeWithGrace({ delay: shutdownDelay * 1000 + closeGraceMs + 5000, logger: app.log }, async ({ signal, err }) => {
    if (err !== undefined) {
      // Only these fields are logged. Other properties of an error, such as the options of a request, may have secrets.
      app.log.fatal({ err: { type: err.name, message: err.message, stack: err.stack } }, 'unexpected error')
      return
    }
    app.log.info({ signal }, 'shutting down')
    stopping = true
    if (app.hasDecorator('health')) app.health.drain()
    if (app.server.listening) await sleep(shutdownDelay * 1000)
    setTimeout(() => {
      app.server.closeAllConnections()
    }, closeGraceMs).unref()
    setTimeout(() => {
      for (const socket of connections) if (socket.bytesRead === 0) socket.destroy()
    }, unusedGraceMs).unref()
    await app.close()
    await output.written(lastLines)
  })

  // Browsers open connections before they need them. Node does not close a connection as idle before its first request,
  // so that the shutdown has to close these.
  const connections = new Set<Socket>()
  app.server.on('connection', (socket: Socket) => {
    connections.add(socket)
    socket.once('close', () => { connections.delete(socket) })
  })

  // A client that keeps its connection would send further requests on it, and delay the exit until `closeGraceMs` is
  // over.
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (stopping) reply.header('connection', 'close')
    done(null, payload)
  })
  app.addHook('onResponse', (_request, _reply, done) => {
    if (stopping && !app.server.listening) setImmediate(() => { app.server.closeIdleConnections() })
    done()
  })
  // Not encapsulated, so that hooks and headers of the registry also apply to unknown routes.
  await app.register(fp(registry), { config })
  await app.register(unknownRoutes)
  await app.ready()
  await Promise.race([app.health.firstRound, sleep(firstRoundLimitMs)])
  if (stopping) return
  try {
    await listen(app, listenHost(host) ?? host, port)
  } catch (error) {
    fail(1, `cannot listen on ${host} port ${port}: ${describeListenError(error)}`)
  }
}

/** Checks the files that the configuration names, and the proxy variables. Throws a `ConfigError` if one is invalid. */
async function check (loaded: LoadedConfig): Promise<void> {
  await checkFiles(loaded)
  if (loaded.config.gitea.length > 0 || loaded.config.oci.some(({ registry }) => isRegistryAddress(registry))) {
    const { readProxies } = await import('./plugins/upstream/proxies.ts')
    readProxies(process.env)
  }
  for (const [index, oci] of loaded.config.oci.entries()) {
    const path = ['oci', index, 'docker_config']
    await checkDockerConfig(oci, formatKey(path), loaded.origin(path))
  }
}

const options = readOptions()
if (options.help) {
  console.log(help.trimEnd())
} else if (options.version) {
  console.log(version())
} else {
  try {
    const loaded = await loadConfig({ file: options.config, env: process.env, cwd: process.cwd() })
    await check(loaded)
    if (options['check-config']) console.log('OK')
    else await serve(loaded)
  } catch (error) {
    if (error instanceof ConfigError) fail(error.exitCode, error.message)
    console.error(error)
    process.exit(1)
  }
}
