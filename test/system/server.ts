import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'

/** Starts the real process on the embedded examples and a free port; gives its address. */
export async function startServer (t: Test): Promise<string> {
  const server = spawn(process.execPath, ['server.ts'], {
    env: {
      PATH: process.env.PATH,
      REGISTRY_SERVER_PORT: '0',
      REGISTRY_SERVER_HOST: '127.0.0.1',
      REGISTRY_SERVER_PUBLIC_URL: 'http://localhost:8082',
      REGISTRY_SERVER_SHUTDOWN_DELAY_SECONDS: '0'
    },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(async () => {
    const gone = new Promise(resolve => server.once('exit', resolve))
    server.kill('SIGTERM')
    await gone
  })
  for await (const line of createInterface(server.stdout)) {
    const address = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0]
    if (address === undefined) continue
    server.stdout.resume()
    return address
  }
  throw new Error('The server ended before it listened')
}
