import { Agent, request } from 'node:http'

/** Response as it was sent, without the headers of the connection. */
export interface Recorded {
  path: string
  status: number
  /** Names and values alternately. */
  headers: string[]
  /** Body in base64. */
  body: string
}

const ofTheConnection = new Set(['date', 'connection', 'keep-alive', 'transfer-encoding'])

/** Sends one request to a server on 127.0.0.1, with the header `host` and the given headers. */
export async function record (
  port: number,
  path: string,
  { headers = {}, agent }: { headers?: Record<string, string>, agent?: Agent } = {}
): Promise<Recorded> {
  return await new Promise((resolve, reject) => {
    const sent = request(
      { host: '127.0.0.1', port, path, headers, agent, signal: AbortSignal.timeout(60_000) },
      response => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk)
        })
        response.once('error', reject)
        response.once('end', () => {
          const kept = response.rawHeaders.flatMap((name, at, all) =>
            at % 2 === 1 || ofTheConnection.has(name.toLowerCase()) ? [] : [name, all[at + 1] ?? '']
          )
          resolve({
            path,
            status: response.statusCode ?? 0,
            headers: kept,
            body: Buffer.concat(chunks).toString('base64')
          })
        })
      }
    )
    sent.once('error', reject)
    sent.end()
  })
}

/** Returns the value of a header; undefined if the response does not have it. */
export function header ({ headers }: Recorded, name: string): string | undefined {
  const at = headers.findIndex((each, at) => at % 2 === 0 && each.toLowerCase() === name)
  return at === -1 ? undefined : headers[at + 1]
}
