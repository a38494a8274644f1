// Serves recorded responses as the baseline of HTTP itself: `node bare.ts http|fastify|fastify-logging PORT FILE`
// returns the recorded response for each path of the file. `fastify-logging` also logs each request in one line, with
// the fields of the registry's log.
import { isAscii } from 'node:buffer'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import Fastify, { LogController, type FastifyReply, type FastifyRequest } from 'fastify'
import { destination } from 'pino'
import type { Recorded } from './recording.ts'

const [kind, port, file = ''] = process.argv.slice(2)
const recorded = JSON.parse(readFileSync(file, 'utf8')) as Recorded[]
const keepAliveTimeout = 72_000
const host = '127.0.0.1'

class RequestLog extends LogController {
  override incomingRequest (): void {}

  override requestCompleted (_error: Error | null | undefined, request: FastifyRequest, reply: FastifyReply): void {
    const { method, url, ip } = request
    const ms = Math.round(reply.elapsedTime * 10) / 10
    reply.log.info({ method, url, status: reply.statusCode, ms, ip }, 'request')
  }
}

/** Returns a body in the form that Node.js writes faster: a short text together with the headers, else bytes. */
const fastest = (body: Buffer): string | Buffer =>
  body.length <= 4096 && isAscii(body) ? body.toString('latin1') : body

if (kind === 'http') {
  const responses = new Map(
    recorded.map(({ path, body, ...result }) => [path, { ...result, body: Buffer.from(body, 'base64') }])
  )
  const server = createServer({ keepAliveTimeout }, (request, response) => {
    const recorded = responses.get(request.url ?? '')
    if (recorded === undefined) response.writeHead(404).end()
    else if (recorded.status === 304) response.writeHead(304, recorded.headers).end()
    else response.writeHead(recorded.status, recorded.headers).end(recorded.body)
  })
  server.listen(Number(port), host)
} else {
  const replies = new Map(recorded.map(({ path, status, headers, body }) => [path, {
    status,
    headers: Object.fromEntries(headers.flatMap((name, at) => at % 2 === 0 ? [[name, headers[at + 1]]] : [])),
    body: status === 304 ? undefined : fastest(Buffer.from(body, 'base64'))
  }]))
  const app = kind === 'fastify-logging'
    ? Fastify({
      keepAliveTimeout,
      logController: new RequestLog(),
      logger: { level: 'info', stream: destination({ dest: 1, sync: false }) }
    })
    : Fastify({ keepAliveTimeout })
  app.get('/*', (request, reply) => {
    const recorded = replies.get(request.url)
    if (recorded === undefined) reply.callNotFound()
    else reply.code(recorded.status).headers(recorded.headers).send(recorded.body)
  })
  await app.listen({ port: Number(port), host })
}
