import { request } from 'node:http'
import { waitingTime } from './environment.ts'
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
export async function send (url: string, operation: UpstreamRequest): Promise<Observation | undefined> {
  const began = waitingTime()
  const late = AbortSignal.timeout(patience)
  return await new Promise((resolve, reject) => {
    const requested = request(url + paths[operation], { agent: false, signal: late }, response => {
      const headers = Object.fromEntries(Object.entries(response.headers).map(([name, value]) => [name, String(value)]))
      const begun = waitingTime() - began
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => { chunks.push(chunk) })
      // A truncated body emits an error first; only its completeness is observed.
      response.on('error', () => {})
      response.once('close', () => {
        const took = operation === 'download' ? begun : waitingTime() - began
        resolve(
          late.aborted
            ? undefined
            : {
                status: response.statusCode ?? 0,
                headers,
                body: Buffer.concat(chunks),
                complete: response.complete,
                took
              }
        )
      })
    })
    requested.once('error', error => { if (late.aborted) resolve(undefined); else reject(error) })
    requested.end()
  })
}
