import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

/**
 * Starts a reverse proxy that strips a prefix, like `location /registry/ { proxy_pass http://127.0.0.1:8082/; }` of
 * nginx: the registry receives paths without it, and unchanged headers. Returns its address with the prefix. A path
 * outside the prefix is 404 and is added to `strays`.
 */
export async function startPrefixProxy (
  t: Test,
  target: string,
  prefix: string
): Promise<{ address: string, strays: string[] }> {
  const strays: string[] = []
  const server = createServer((incoming, outgoing) => {
    const { url = '', method, headers } = incoming
    if (!url.startsWith(`${prefix}/`)) {
      strays.push(url)
      outgoing.writeHead(404).end()
      return
    }
    const passed = request(`${target}${url.slice(prefix.length)}`, { method, headers }, response => {
      outgoing.writeHead(response.statusCode ?? 502, response.headers)
      response.pipe(outgoing)
    })
    passed.on('error', () => { outgoing.destroy() })
    incoming.pipe(passed)
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { address: `http://127.0.0.1:${(server.address() as AddressInfo).port}${prefix}`, strays }
}
