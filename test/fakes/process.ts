import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'

const root = resolve(import.meta.dirname, '../..')
const { NODE_COMPILE_CACHE } = process.env

export interface Run {
  /**
   * Resolves with the next line of standard output that matches, or an earlier one. Rejects when the process ends
   * without it.
   */
  line (pattern: RegExp): Promise<RegExpExecArray>
  /** Exit code and complete output, after the process has ended. */
  end: Promise<{ code: number | null, stdout: string[], stderr: string }>
  kill (signal: NodeJS.Signals): void
  input (text: string): void
}

/** Runs `server.ts` with its own environment. */
export function run (
  t: Test,
  { args = [], env = {}, node = [], cwd = root }: {
    args?: string[],
    env?: Record<string, string>,
    node?: string[],
    cwd?: string
  } = {}
): Run {
  const child = spawn(process.execPath, [...node, join(root, 'server.ts'), ...args], {
    cwd,
    env: {
      ...NODE_COMPILE_CACHE !== undefined && { NODE_COMPILE_CACHE: resolve(root, NODE_COMPILE_CACHE) },
      REGISTRY_SERVER_HOST: '127.0.0.1',
      REGISTRY_SERVER_PORT: '0',
      REGISTRY_SERVER_SHUTDOWN_DELAY_SECONDS: '0',
      ...env
    }
  })
  const stdout: string[] = []
  let stderr = ''
  const lines = createInterface(child.stdout).on('line', line => stdout.push(line))
  child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  const end = once(child, 'close').then(([code]: Array<number | null>) => ({ code: code ?? null, stdout, stderr }))
  t.teardown(async () => { child.kill('SIGKILL'); await end })

  return {
    end,
    kill: signal => {
      child.kill(signal)
    },
    input: text => {
      child.stdin.write(text)
    },
    line: async pattern =>
      await new Promise((resolve, reject) => {
        const search = (): void => {
          const found = stdout.map(line => pattern.exec(line)).find(match => match !== null)
          if (found !== undefined && found !== null) resolve(found)
        }
        search()
        lines.on('line', search)
        end.then(({ code }) => {
          reject(new Error(`ended with ${code} before ${pattern}: ${stdout.join('\n')} ${stderr}`))
        }, reject)
      })
  }
}

/** Runs `server.ts` until it listens; the default upstream is an empty directory of layouts. */
export async function start (
  t: Test,
  env: Record<string, string> = {},
  node: string[] = []
): Promise<Run & { port: number, get: (path: string) => Promise<Response> }> {
  const server = run(t, { env: { ...env, REGISTRY_OCI_REGISTRY: env['REGISTRY_OCI_REGISTRY'] ?? t.testdir({}) }, node })
  const port = Number((await server.line(/"msg":"Server listening at http:\/\/127\.0\.0\.1:(\d+)"/))[1])
  return { ...server, port, get: async path => await fetch(`http://127.0.0.1:${port}${path}`) }
}
