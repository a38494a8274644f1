import { Agent, request } from 'node:http'

/** An answer as it was sent, without what the server's HTTP adds by itself. */
export interface Recorded {
  path: string
  status: number
  /** Names and values in turn. */
  headers: string[]
  /** In base64. */
  body: string
}

const ofTheConnection = new Set(['date', 'connection', 'keep-alive', 'transfer-encoding'])

/** Asks a server on 127.0.0.1 once, with no header but `host` and those given. */
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

/** The value of a header; undefined when the answer has none. */
export function header ({ headers }: Recorded, name: string): string | undefined {
  const at = headers.findIndex((each, at) => at % 2 === 0 && each.toLowerCase() === name)
  return at === -1 ? undefined : headers[at + 1]
}
