import { createServer, request as ask } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'

export interface ProxyFake {
  url: string
  /** Requests of clients: `CONNECT host:port`, or `GET http://…`. */
  readonly requested: string[]
  /** `Proxy-Authorization` of each request. */
  readonly authorizations: Array<string | undefined>
  /** Status of all responses while it is set. */
  refuses: number | undefined
}

/** Starts a proxy that connects every host to one port on 127.0.0.1. */
export async function createProxy (t: Test, port: number): Promise<ProxyFake> {
  const sockets = new Set<Socket>()
  const server = createServer((message, response) => {
    proxy.requested.push(`${message.method ?? ''} ${message.url ?? ''}`)
    proxy.authorizations.push(message.headers['proxy-authorization'])
    if (proxy.refuses !== undefined) return response.writeHead(proxy.refuses).end()
    const { pathname, search, host } = new URL(message.url ?? '')
    ask({
      host: '127.0.0.1',
      port,
      path: pathname + search,
      method: message.method,
      headers: { ...message.headers, host }
    }, reply => {
      response.writeHead(reply.statusCode ?? 500, reply.headers)
      reply.pipe(response)
    }).end()
  })
  server.on('connection', socket => { sockets.add(socket) })
  server.on('connect', (message, client: Socket) => {
    proxy.requested.push(`CONNECT ${message.url ?? ''}`)
    proxy.authorizations.push(message.headers['proxy-authorization'])
    if (proxy.refuses !== undefined) return client.end(`HTTP/1.1 ${proxy.refuses} Refused\r\n\r\n`)
    const target = connect(port, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n')
      client.pipe(target).pipe(client)
    })
    sockets.add(target)
    for (const socket of [client, target]) socket.on('error', () => { client.destroy(); target.destroy() })
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise(resolve => server.close(resolve))
  })
  const proxy: ProxyFake = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requested: [],
    authorizations: [],
    refuses: undefined
  }
  return proxy
}
