import { createServer, request as ask, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

export interface CuttingProxyOptions {
  /** Path of the files that it cuts and counts; everything else is passed on. */
  path: RegExp
  /** Whether `Range` is passed on; else the upstream seems to know none. */
  ranges?: boolean
  /** Bytes of the file at which a connection is reset, each once. */
  cuts?: number[]
}

export interface CuttingProxy extends Required<CuttingProxyOptions> {
  readonly url: string
  /** Bytes of files that were sent. */
  readonly sent: number
  /** `Range` of each request for a file. */
  readonly requests: Array<string | undefined>
  /** What is sent before a byte waits until this settles: `[offset, promise]`. */
  hold: [number, Promise<void>] | undefined
}

/** First byte of an answer in the file that it is of. */
const startOf = ({ headers }: IncomingMessage): number =>
  Number(/^bytes (\d+)-/.exec(headers['content-range'] ?? '')?.[1] ?? 0)

/**
 * Starts a proxy before the upstream at `url` that streams, and resets connections where it is told. It may be changed
 * while it runs.
 */
export async function createCuttingProxy (t: Test, url: string, options: CuttingProxyOptions): Promise<CuttingProxy> {
  const upstream = new URL(url)

  /** The pieces of a chunk that begins at `at`, divided where something happens. */
  function * divide (chunk: Buffer, at: number): Generator<Buffer> {
    const marks = [...proxy.cuts, proxy.hold?.[0] ?? 0].map(mark => mark - at)
    const ends = [...marks.filter(mark => mark > 0 && mark < chunk.length).sort((a, b) => a - b), chunk.length]
    for (const [index, end] of ends.entries()) yield chunk.subarray(ends[index - 1] ?? 0, end)
  }

  async function send (answer: IncomingMessage, response: ServerResponse): Promise<void> {
    let at = startOf(answer)
    for await (const chunk of answer) {
      for (const piece of divide(chunk as Buffer, at)) {
        if (proxy.hold !== undefined && at >= proxy.hold[0]) await proxy.hold[1]
        // Counted when the system has taken it, which is no less than what arrives.
        await new Promise<void>((resolve, reject) => {
          response.write(piece, error => {
            if (error == null) resolve()
            else reject(error)
          })
        })
        proxy.sent += piece.length
        at += piece.length
        if (!proxy.cuts.includes(at)) continue
        proxy.cuts.splice(proxy.cuts.indexOf(at), 1)
        response.socket?.resetAndDestroy()
        return
      }
    }
    response.end()
  }

  const server = createServer((request, response) => {
    const isFile = proxy.path.test(request.url ?? '')
    const headers = { ...request.headers }
    if (isFile) proxy.requests.push(headers.range)
    if (isFile && !proxy.ranges) delete headers.range
    const asked = ask({
      host: upstream.hostname,
      port: upstream.port,
      path: request.url,
      method: request.method,
      headers,
      agent: false
    }, answer => {
      response.writeHead(answer.statusCode ?? 500, answer.headers)
      if (isFile) send(answer, response).catch(() => { response.destroy() })
      else answer.pipe(response)
    })
    asked.on('error', () => { response.destroy() })
    response.once('close', () => { asked.destroy() })
    asked.end()
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const proxy = {
    ranges: true,
    cuts: [],
    ...options,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sent: 0,
    requests: [] as Array<string | undefined>,
    hold: undefined as CuttingProxy['hold']
  }
  return proxy
}
