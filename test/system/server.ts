import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'

export interface Program {
  /** The program and its arguments; `server.ts` of this project unless told. */
  command?: [string, ...string[]]
  cwd?: string
  env?: Record<string, string>
}

export interface Running {
  /** `http://127.0.0.1:{port}` */
  address: string
  /** Sends SIGTERM; gives the exit code once the process has ended. */
  stop: () => Promise<number | null>
}

/** Starts a program that logs where it listens, on a free port; it ends with the test. */
export async function startProgram (t: Test, { command = [process.execPath, 'server.ts'], cwd, env = {} }: Program = {}): Promise<Running> {
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
  const end = new Promise<number | null>(resolve => { program.once('exit', resolve) })
  const stop = async () => {
    program.kill('SIGTERM')
    return await end
  }
  t.teardown(stop)
  for await (const line of createInterface(program.stdout)) {
    const address = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0]
    if (address === undefined) continue
    program.stdout.resume()
    return { address, stop }
  }
  throw new Error('The program ended before it listened')
}

/** Starts the real process on the embedded examples and a free port; gives its address. */
export async function startServer (t: Test, env: Record<string, string> = {}): Promise<string> {
  const { address } = await startProgram(t, { env })
  return address
}
