import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Readable } from 'node:stream'

/** What curl says of one download. */
export interface Curled {
  /** Its exit code: 0, or 18 for a file that came in part. */
  exit: number
  status: number
  /** Bytes of the body that came. */
  size: number
  /** The file that it wrote. */
  file: string | null
  /** Of the answer, by names in lower case. */
  headers: Record<string, string>
}

interface Told {
  facts: { http_code: number, size_download: number, filename_effective: string | null }
  headers: Record<string, string[]>
}

/** Runs the real curl in a directory; the arguments tell where the body goes. */
export async function curl (directory: string, ...args: string[]): Promise<Curled> {
  return await new Promise((resolve, reject) => {
    // Written behind a mark: with -I curl prints the headers, too.
    execFile('curl', ['--silent', '--write-out', '\n\u001e{"facts":%{json},"headers":%{header_json}}', ...args], {
      cwd: directory
    }, (error, stdout) => {
      if (error !== null && typeof error.code !== 'number') {
        reject(error)
        return
      }
      const { facts, headers } = JSON.parse(stdout.split('\u001e').at(-1) ?? '') as Told
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

/** A real curl under way. */
export interface RunningCurl {
  body: Readable
  /** Settles with the first bytes. */
  begun: Promise<unknown>
  /** Its exit code; null when it was killed. */
  exit: Promise<number | null>
  kill: () => void
}

/** Starts the real curl, which prints the body. */
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

/** Reads what a curl prints to its end; gives size and digest. */
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
