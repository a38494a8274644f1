import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Readable } from 'node:stream'

/** Result of one download, as reported by curl. */
export interface Curled {
  /** Exit code: 0, or 18 for an incomplete file. */
  exit: number
  status: number
  /** Received bytes of the body. */
  size: number
  /** Name of the written file. */
  file: string | null
  /** Response headers by names in lower case. */
  headers: Record<string, string>
}

interface Observed {
  facts: { http_code: number, size_download: number, filename_effective: string | null }
  headers: Record<string, string[]>
}

/** Runs the real curl in a directory; the arguments set the destination of the body. */
export async function curl (directory: string, ...args: string[]): Promise<Curled> {
  return await new Promise((resolve, reject) => {
    // curl -I also prints the headers, so a separator precedes the facts.
    execFile('curl', ['--silent', '--write-out', '\n\u001e{"facts":%{json},"headers":%{header_json}}', ...args], {
      cwd: directory
    }, (error, stdout) => {
      if (error !== null && typeof error.code !== 'number') {
        reject(error)
        return
      }
      const { facts, headers } = JSON.parse(stdout.split('\u001e').at(-1) ?? '') as Observed
      resolve({
        exit: Number(error?.code ?? 0),
        status: facts.http_code,
        size: facts.size_download,
        file: facts.filename_effective,
        headers: Object.fromEntries(Object.entries(headers).map(([name, values]) => [name, values.join(', ')]))
      })
    })
  })
}

/** Running process of the real curl. */
export interface RunningCurl {
  body: Readable
  /** Settles when the first bytes arrive. */
  begun: Promise<unknown>
  /** Exit code; null after a kill. */
  exit: Promise<number | null>
  kill: () => void
}

/** Starts the real curl, with the body on its standard output. */
export function startCurl (...args: string[]): RunningCurl {
  const program = spawn('curl', ['--silent', ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exit = once(program, 'close').then(([code]) => code as number | null)
  return {
    body: program.stdout,
    begun: once(program.stdout, 'readable'),
    exit,
    kill: () => {
      program.kill('SIGKILL')
    }
  }
}

/** Reads the complete output of curl; returns its size in bytes, its digest and the exit code. */
export async function hashed (
  { body, exit }: RunningCurl
): Promise<{ exit: number | null, size: number, digest: string }> {
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of body) {
    hash.update(chunk as Buffer)
    size += (chunk as Buffer).length
  }
  return { exit: await exit, size, digest: `sha256:${hash.digest('hex')}` }
}
