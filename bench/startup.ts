import { get } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, resident, start, stop } from './process.ts'
import { spread, type Spread } from './statistics.ts'

const root = join(import.meta.dirname, '..')
/** Milliseconds of idle time before memory is measured. */
const idle = 3000

/** Result of a start: milliseconds until the first response of the catalog, and bytes of memory when idle. */
export interface Startup { firstResponse: Spread, idle?: number }

async function status (port: number): Promise<number | undefined> {
  return await new Promise(resolve => {
    get({ host: '127.0.0.1', port, path: '/api/v1/extensions', agent: false }, response => {
      response.resume().once('end', () => { resolve(response.statusCode) })
    }).once('error', () => { resolve(undefined) })
  })
}

async function once (
  command: string,
  args: readonly string[],
  looksAtMemory: boolean,
  env: Record<string, string>
): Promise<{ firstResponse: number, idle?: number }> {
  const port = await freePort()
  const began = performance.now()
  const program = start(command, args, {
    cwd: root,
    env: {
      REGISTRY_SERVER_HOST: '127.0.0.1',
      REGISTRY_SERVER_PORT: String(port),
      REGISTRY_SERVER_SHUTDOWN_DELAY_SECONDS: '0',
      HOME: process.env.HOME ?? '/',
      ...env
    }
  })
  try {
    while (await status(port) !== 200) {
      if (performance.now() - began > 30_000) throw new Error(`${command} does not respond`)
      await sleep(2)
    }
    const firstResponse = performance.now() - began
    if (!looksAtMemory) return { firstResponse }
    await sleep(idle)
    return { firstResponse, idle: await resident(program.pid) }
  } finally {
    await stop(program)
  }
}

/**
 * Starts the server with its default catalog this number of times. An additional start comes first, so that the system
 * has read the files and Node.js has filled its compile cache.
 */
export async function measureStartup (
  command: string,
  args: readonly string[],
  { times, memory = false, env = {} }: { times: number, memory?: boolean, env?: Record<string, string> }
): Promise<Startup> {
  await once(command, args, false, env)
  const starts: Array<Awaited<ReturnType<typeof once>>> = []
  for (let time = 0; time < times; time++) starts.push(await once(command, args, memory && time === 0, env))
  const held = starts[0]?.idle
  return {
    firstResponse: spread(starts.map(({ firstResponse: firstReply }) => firstReply)),
    ...(held !== undefined && { idle: held })
  }
}
