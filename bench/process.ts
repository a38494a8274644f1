import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer, connect, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface StartOptions {
  /** Processor of the process if the system has `taskset`; any if unset. */
  core?: number
  /** Environment of the process, in addition to `PATH`. */
  env?: Record<string, string>
  cwd?: string
  /** Destination of standard output: `inherit` for output to the user; ignored if unset. */
  output?: 'ignore' | 'inherit' | 'pipe'
}

export interface Running {
  pid: number
  child: ChildProcess
  /** Resolves with the exit code when the process has ended; null after a signal. */
  end: Promise<number | null>
}

/** True if processes can be pinned to one processor. */
export const canPin: boolean = spawnSync('taskset', ['--version'], { stdio: 'ignore' }).status === 0

const { scripts } = JSON.parse(readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8')) as {
  scripts: { start: string }
}

/** Command of `npm start`. */
export const startCommand: string = scripts.start

/** Options of Node.js in `npm start`. */
export const startFlags: readonly string[] = startCommand.split(' ').filter(word => word.startsWith('--'))

const running = new Set<ChildProcess>()
// Every started process ends with this process.
process.once('exit', () => { for (const child of running) child.kill('SIGKILL') })
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => { process.exit(1) })

/** Starts a program. `taskset` is replaced by the program, so the process id is that of the program. */
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
  // A failed start is reported to the caller that waits for `end`; without one, the rejection must not end this
  // process.
  end.catch(() => {})
  return { pid: child.pid ?? 0, child, end }
}

/** Ends a process and waits for its end; kills it after `patience` milliseconds. */
export async function stop ({ child, end }: Running, patience = 10_000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  const force = setTimeout(() => { child.kill('SIGKILL') }, patience)
  await end.finally(() => { clearTimeout(force) })
}

/** Returns a free port on 127.0.0.1. */
export async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** Waits until a process listens on a port of 127.0.0.1. Throws if it ends first, or after `patience` milliseconds. */
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

/** Returns the current resident memory of a process in bytes; Linux only. */
export const resident = async (pid: number): Promise<number> => await memory(pid, 'VmRSS')

/** Returns the peak resident memory of a process in bytes; Linux only. */
export const peakRss = async (pid: number): Promise<number> => await memory(pid, 'VmHWM')

/** Ticks of a second in `/proc/PID/stat`, which Linux has on every architecture that Node.js supports. */
const ticksPerSecond = 100

/** Returns the user and system time of a process in seconds, from the text of `/proc/PID/stat`. */
export function parseCpuSeconds (stat: string): number {
  // The name of the program, in parentheses, may contain spaces.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
}

/** Returns the CPU time of a process in seconds, user and system; Linux only. */
export const cpuSeconds = async (pid: number): Promise<number> =>
  parseCpuSeconds(await readFile(`/proc/${pid}/stat`, 'utf8'))
