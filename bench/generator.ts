import { spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { start } from './process.ts'

/** Load on one server. */
export interface Load {
  port: number
  /** Paths, requested in turn; with more than one path, `sequence` is a file that the generator may write. */
  paths: readonly string[]
  sequence: string
  headers?: Record<string, string>
  /** Duration in whole seconds. */
  seconds: number
  core?: number
}

/** Measured rate and latency; percentiles in milliseconds. */
export interface Measured { perSecond: number, p50: number, p99: number }

/** Number of concurrent connections, each with a new request as soon as it has a response. */
export const connections = 64

export interface Generator {
  /** Name and version of the generator. */
  readonly name: string
  measure (load: Load): Promise<Measured>
}

async function run (command: string, args: readonly string[], { core }: Load): Promise<string> {
  const program = start(command, args, { output: 'pipe', ...(core !== undefined && { core }) })
  const chunks: Buffer[] = []
  program.child.stdout?.on('data', (chunk: Buffer) => { chunks.push(chunk) })
  const code = await program.end
  if (code !== 0) throw new Error(`${command} ended with ${code}`)
  return Buffer.concat(chunks).toString()
}

const wrk = (version: string): Generator => ({
  name: `wrk ${version}`,
  async measure (load) {
    const { port, paths, sequence, headers = {}, seconds } = load
    const [path = '/'] = paths
    if (paths.length > 1) await writeFile(sequence, `${paths.join('\n')}\n`)
    const fields = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`])
    const printed = await run('wrk', [
      '-t1',
      `-c${connections}`,
      `-d${seconds}s`,
      '--timeout',
      '10s',
      '-s',
      join(import.meta.dirname, 'wrk.lua'),
      ...fields,
      `http://127.0.0.1:${port}${path}`,
      ...(paths.length > 1 ? ['--', sequence] : [])
    ], load)
    const { requests, seconds: time, errors, p50, p99 } = JSON.parse(printed.trim().split('\n').at(-1) ?? '') as Record<
      'requests' | 'seconds' | 'errors' | 'p50' | 'p99',
      number
    >
    if (errors > 0 || requests === 0) throw new Error(`${errors} of ${requests} requests for ${path} failed`)
    return { perSecond: requests / time, p50, p99 }
  }
})

const require = createRequire(import.meta.url)
interface Summary {
  duration: number
  errors: number
  timeouts: number
  statusCodeStats: Record<string, { count: number }>
  latency: { p50: number, p99: number }
}

const autocannon = (): Generator => ({
  name: `autocannon ${(require('autocannon/package.json') as { version: string }).version}`,
  async measure (load) {
    const { port, paths, sequence, headers = {}, seconds } = load
    const origin = `http://127.0.0.1:${port}`
    const [path = '/'] = paths
    // Each connection prepares all requests itself, so their number is limited; each address is among them.
    const requested = [...new Set(paths), ...paths].slice(0, 2000)
    if (paths.length > 1) {
      const entries = requested.map(path => ({
        request: {
          method: 'GET',
          url: `${origin}${path}`,
          headers: Object.entries(headers).map(([name, value]) => ({ name, value }))
        }
      }))
      await writeFile(sequence, JSON.stringify({ log: { entries } }))
    }
    const fields = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}=${value}`])
    const printed = await run(process.execPath, [
      require.resolve('autocannon/autocannon.js'),
      '--json',
      '--no-progress',
      '-c',
      String(connections),
      '-d',
      String(seconds),
      ...fields,
      ...(paths.length > 1 ? ['--har', sequence, origin] : [`${origin}${path}`])
    ], load)
    const { duration, errors, timeouts, statusCodeStats, latency } = JSON.parse(printed) as Summary
    const refused = Object.entries(statusCodeStats).filter(([status]) => status !== '200' && status !== '304')
    const completed = Object.values(statusCodeStats).reduce((sum, { count }) => sum + count, 0)
    if (errors + timeouts + refused.length > 0 || completed === 0) {
      throw new Error(
        `Requests for ${path} failed: ${errors} errors, ${timeouts} timeouts, statuses ${
          Object.keys(statusCodeStats).join(', ')
        }`
      )
    }
    return { perSecond: completed / duration, p50: latency.p50, p99: latency.p99 }
  }
})

/**
 * Creates a generator: wrk if it is installed, since it loads a server more than JavaScript can; otherwise autocannon.
 */
export function createGenerator (expected?: 'wrk' | 'autocannon'): Generator {
  const { error, stdout } = spawnSync('wrk', ['--version'], { encoding: 'utf8' })
  if (error === undefined && expected !== 'autocannon') return wrk(/^wrk (\S+)/.exec(stdout)?.[1] ?? '')
  if (expected === 'wrk') throw new Error('wrk is not installed')
  return autocannon()
}
