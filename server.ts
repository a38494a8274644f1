#!/usr/bin/env node
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { enableCompileCache, findPackageJSON } from 'node:module'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { getSystemErrorMessage, parseArgs } from 'node:util'
import type { FastifyInstance } from 'fastify'
import type { LoadedConfig } from './lib/config/load.ts'
import { cacheHome } from './plugins/downloads/store/paths.ts'

// What is loaded from here on is compiled once and not at each start, where that can be kept. A folder that others
// could write to, as Node's own choice may be, would be taken at its word.
const compiled = process.env.NODE_COMPILE_CACHE ||
  (home => home && join(home, 'extension-registry', 'compiled'))(cacheHome())
if (compiled) enableCompileCache(compiled)
const { default: closeWithGrace } = await import('close-with-grace')
const { default: Fastify } = await import('fastify')
const { default: fp } = await import('fastify-plugin')
const { destination } = await import('pino')
const { default: registry, serverOptions } = await import('./app.ts')
const { checkDockerConfig } = await import('./backends/oci/registry/credentials.ts')
const { ConfigError, formatKey } = await import('./lib/config/parse.ts')
const { checkFiles } = await import('./lib/config/files.ts')
const { loadConfig } = await import('./lib/config/load.ts')
const { isRegistryAddress } = await import('./schemas/config.ts')
const { listenHost } = await import('./lib/host-name.ts')
const { unknownRoutes } = await import('./plugins/errors.ts')

const help = `Usage: extension-registry [--config FILE] [--check-config]

Serves one catalog over the configured Gitea organisations and OCI registries.

  --config FILE   TOML file; REGISTRY_CONFIG names it as well. REGISTRY_* variables win over it
  --check-config  only check the configuration: print OK, or one line that says what is wrong
  --version       print the version
  --help          print this

Exit codes: 0 stopped or checked, 1 failed, 64 bad option, 78 bad configuration.
`

/** Milliseconds that the first health round may hold up the start. */
const firstRoundLimitMs = 2000
/**
 * Milliseconds in which a connection that was just made may still bring its first request when nothing listens any
 * more.
 */
const unusedGraceMs = 1000
/** Milliseconds that requests under way may still take once nothing listens any more. */
const closeGraceMs = 25_000
/**
 * Bytes of log lines that wait to be read; beyond that they are dropped, for who does not read them must not stop the
 * service.
 */
const unreadLog = 64 * 1024 * 1024
/** Milliseconds that the end waits for the last lines to be read. */
const lastLines = 1000

/** Ends the process at once with one line for the person who started it. */
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
 * Listens on an address. `::` means IPv4 alone where the machine has no IPv6, so that one manifest fits every cluster.
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
  // Lines are written behind the requests, as many at a time as have come together; what is left at an exit, before it.
  const output = destination({ dest: 1, sync: false, maxLength: unreadLog })
  const { http, ...options } = serverOptions(config)
  // A request without a body needs no stream for it. No route here takes one, so that no parser waits for the end of
  // what never began; a host's routes may, and may listen for the end of a request. Of a logger that writes nothing
  // each request would still make one of its own.
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
      // Its own words only: what else hangs on an error, such as the options of a request, may hold secrets.
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
    const written = once(output, 'drain')
    output.write('')
    await Promise.race([written, sleep(lastLines)])
  })

  // Browsers connect ahead of requests; to Node a connection is not idle before its first one.
  const connections = new Set<Socket>()
  app.server.on('connection', (socket: Socket) => {
    connections.add(socket)
    socket.once('close', () => { connections.delete(socket) })
  })

  // A client that keeps its connection would come back on it until the very end, and then hold up the end until the
  // grace is over.
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (stopping) reply.header('connection', 'close')
    done(null, payload)
  })
  app.addHook('onResponse', (_request, _reply, done) => {
    if (stopping && !app.server.listening) setImmediate(() => { app.server.closeIdleConnections() })
    done()
  })
  // Not encapsulated: what the registry does for its routes holds for unknown ones too.
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

/**
 * Throws a `ConfigError` for anything outside of the configuration itself that would fail later: the files that it
 * names, and the proxy variables.
 */
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
