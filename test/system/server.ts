import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'

export interface Program {
  /** Program with its arguments; by default `server.ts` of this project. */
  command?: [string, ...string[]]
  cwd?: string
  env?: Record<string, string>
  /** Receives each printed line. */
  onLine?: (line: string) => void
}

export interface Running {
  /** `http://127.0.0.1:{port}` */
  address: string
  /** Sends SIGTERM; returns the exit code after the end of the process. */
  stop: () => Promise<number | null>
  kill: (signal: NodeJS.Signals) => void
  /** Exit code; settles at the end of the process. */
  end: Promise<number | null>
}

/** Starts a program on a free port and waits until it logs its address; stops it at the end of the test. */
export async function startProgram (
  t: Test,
  { command = [process.execPath, 'server.ts'], cwd, env = {}, onLine }: Program = {}
): Promise<Running> {
  const [file, ...args] = command
  const program = spawn(file, args, {
    ...(cwd !== undefined && { cwd }),
    env: {
      PATH: process.env.PATH,
      REGISTRY_SERVER_PORT: '0',
      REGISTRY_SERVER_HOST: '127.0.0.1',
      REGISTRY_SERVER_PUBLIC_URL: 'http://localhost:8082',
      REGISTRY_SERVER_SHUTDOWN_DELAY_SECONDS: '0',
      ...env
    },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const end = new Promise<number | null>(resolve => { program.once('close', resolve) })
  const stop = async () => {
    program.kill('SIGTERM')
    return await end
  }
  t.teardown(stop)
  const address = await new Promise<string>((resolve, reject) => {
    createInterface(program.stdout).on('line', line => {
      onLine?.(line)
      const listening = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0]
      if (listening !== undefined) resolve(listening)
    })
    void end.then(() => { reject(new Error('The program ended before it listened')) })
  })
  return { address, stop, end, kill: signal => { program.kill(signal) } }
}

/** Starts the real process with the embedded examples on a free port; returns its address. */
export async function startServer (t: Test, env: Record<string, string> = {}): Promise<string> {
  const { address } = await startProgram(t, { env })
  return address
}
