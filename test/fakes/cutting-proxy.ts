import { createServer, request as ask, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

export interface CuttingProxyOptions {
  /** Path of the files that are cut and counted; other requests are passed on. */
  path: RegExp
  /** Whether `Range` is passed on; without it the upstream seems not to support ranges. */
  ranges?: boolean
  /** Positions in bytes of the file at which a connection is reset, each once. */
  cuts?: number[]
}

export interface CuttingProxy extends Required<CuttingProxyOptions> {
  readonly url: string
  /** Bytes of files that were sent. */
  readonly sent: number
  /** `Range` of each request for a file. */
  readonly requests: Array<string | undefined>
  /** Position in bytes and a promise; later bytes are sent after the promise settles. */
  hold: [number, Promise<void>] | undefined
}

/** Returns the position in the file of the first byte of a response. */
const startOf = ({ headers }: IncomingMessage): number =>
  Number(/^bytes (\d+)-/.exec(headers['content-range'] ?? '')?.[1] ?? 0)

/**
 * Starts a streaming proxy in front of the upstream at `url` that resets connections at the configured positions. Its
 * options may change while it runs.
 */
export async function createCuttingProxy (t: Test, url: string, options: CuttingProxyOptions): Promise<CuttingProxy> {
  const upstream = new URL(url)

  /** Yields the parts of a chunk that starts at `at`, split at the configured positions. */
  function * divide (chunk: Buffer, at: number): Generator<Buffer> {
    const marks = [...proxy.cuts, proxy.hold?.[0] ?? 0].map(mark => mark - at)
    const ends = [...marks.filter(mark => mark > 0 && mark < chunk.length).sort((a, b) => a - b), chunk.length]
    for (const [index, end] of ends.entries()) yield chunk.subarray(ends[index - 1] ?? 0, end)
  }

  async function send (reply: IncomingMessage, response: ServerResponse): Promise<void> {
    let at = startOf(reply)
    for await (const chunk of reply) {
      for (const piece of divide(chunk as Buffer, at)) {
        if (proxy.hold !== undefined && at >= proxy.hold[0]) await proxy.hold[1]
        // Bytes are counted after the system accepted them; the client receives at most as many.
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
    const requested = ask({
      host: upstream.hostname,
      port: upstream.port,
      path: request.url,
      method: request.method,
      headers,
      agent: false
    }, result => {
      response.writeHead(result.statusCode ?? 500, result.headers)
      if (isFile) send(result, response).catch(() => { response.destroy() })
      else result.pipe(response)
    })
    requested.on('error', () => { response.destroy() })
    response.once('close', () => { requested.destroy() })
    requested.end()
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
