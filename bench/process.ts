import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer, connect, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface StartOptions {
  /** The processor that it may run on, where the system has `taskset`; any if unset. */
  core?: number
  /** All of its environment but `PATH`. */
  env?: Record<string, string>
  cwd?: string
  /** What becomes of its standard output: `inherit` for what people shall see; gone if unset. */
  output?: 'ignore' | 'inherit' | 'pipe'
}

export interface Running {
  pid: number
  child: ChildProcess
  /** Settles with the exit code once it has ended; null for a signal. */
  end: Promise<number | null>
}

/** Whether processes can be held to one processor here. */
export const canPin: boolean = spawnSync('taskset', ['--version'], { stdio: 'ignore' }).status === 0

const { scripts } = JSON.parse(readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8')) as {
  scripts: { start: string }
}

/** Options of Node.js that `npm start` has. */
export const startFlags: readonly string[] = scripts.start.split(' ').filter(word => word.startsWith('--'))

const running = new Set<ChildProcess>()
// Nothing outlives the one that measures, however it ends.
process.once('exit', () => { for (const child of running) child.kill('SIGKILL') })
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => { process.exit(1) })

/** Starts a program. `taskset` replaces itself by it, so that the process is the program's own. */
export function start (
  command: string,
  args: readonly string[],
  { core, env = {}, cwd, output = 'ignore' }: StartOptions = {}
): Running {
  const pinned = core === undefined || !canPin
    ? [command, ...args]
    : ['taskset', '--cpu-list', String(core), command, ...args]
  const [file = command, ...rest] = pinned
  const child = spawn(file, rest, {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', output, 'inherit'],
    ...(cwd !== undefined && { cwd })
  })
  running.add(child)
  const end = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  }).finally(() => { running.delete(child) })
  // Who waits for it learns of a failed start; nobody has to.
  end.catch(() => {})
  return { pid: child.pid ?? 0, child, end }
}

/** Ends a process, and waits until it has; by force when it takes longer than so many milliseconds. */
export async function stop ({ child, end }: Running, patience = 10_000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  const force = setTimeout(() => { child.kill('SIGKILL') }, patience)
  await end.finally(() => { clearTimeout(force) })
}

/** A port on 127.0.0.1 that nobody listens on at the moment. */
export async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/**
 * Waits until a process listens on a port of 127.0.0.1. Throws when it ends before, or takes longer than so many
 * milliseconds.
 */
export async function listening (port: number, { child }: Running, patience = 20_000): Promise<void> {
  const until = performance.now() + patience
  for (;;) {
    const socket = connect(port, '127.0.0.1')
    const open = await once(socket, 'connect').then(() => true, () => false)
    socket.destroy()
    if (open) return
    if (child.exitCode !== null || child.signalCode !== null) throw new Error('A program ended before it listened')
    if (performance.now() > until) throw new Error(`Nothing listens on port ${port}`)
    await sleep(20)
  }
}

async function memory (pid: number, field: 'VmRSS' | 'VmHWM'): Promise<number> {
  const kilobytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kilobytes ?? NaN) * 1024
}

/** Bytes of memory that a process has at the moment; of Linux. */
export const resident = async (pid: number): Promise<number> => await memory(pid, 'VmRSS')

/** Most bytes of memory that it ever had. */
export const peakRss = async (pid: number): Promise<number> => await memory(pid, 'VmHWM')
