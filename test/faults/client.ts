import { request } from 'node:http'
import { processTime } from './environment.ts'
import { version, type Observation } from './outcomes.ts'
import type { UpstreamRequest } from './table.ts'

/** Milliseconds after which a response is considered missing. */
const patience = 10_000

const extension = '/api/v1/extensions/taskserv/vault'
const paths: Record<UpstreamRequest, string> = {
  list: '/api/v1/extensions',
  search: '/api/v1/extensions/search?q=vault',
  metadata: extension,
  versions: `${extension}/versions`,
  download: `${extension}/${version}`,
  health: '/health'
}

/** Sends a request without keep-alive; returns undefined if no complete response arrives in time. */
export async function ask (url: string, question: UpstreamRequest): Promise<Observation | undefined> {
  const began = processTime()
  const late = AbortSignal.timeout(patience)
  return await new Promise((resolve, reject) => {
    const asked = request(url + paths[question], { agent: false, signal: late }, answer => {
      const headers = Object.fromEntries(Object.entries(answer.headers).map(([name, value]) => [name, String(value)]))
      const begun = processTime() - began
      const chunks: Buffer[] = []
      answer.on('data', (chunk: Buffer) => { chunks.push(chunk) })
      // A truncated body emits an error first; only its completeness is observed.
      answer.on('error', () => {})
      answer.once('close', () => {
        const took = question === 'download' ? begun : processTime() - began
        resolve(
          late.aborted
            ? undefined
            : { status: answer.statusCode ?? 0, headers, body: Buffer.concat(chunks), complete: answer.complete, took }
        )
      })
    })
    asked.once('error', error => { if (late.aborted) resolve(undefined); else reject(error) })
    asked.end()
  })
}
