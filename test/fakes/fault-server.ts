import { request as ask } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { connect, type Socket } from 'node:net'
import { Worker } from 'node:worker_threads'
import { createLoopback, type Loopback, type LoopbackResponse, type LoopbackRequest } from './loopback.ts'

/**
 * A server on 127.0.0.1 in front of any upstream, fake or real. It passes requests on with their headers, including
 * `Host`, so that addresses in the responses have its host. Its `fault` can replace responses, and may change while it
 * runs; the upstream itself is not changed.
 */
export interface FaultServer extends Loopback {
  /** Returns the response of the upstream to a request, or to the same request with another path. */
  truth: (request: LoopbackRequest, path?: string) => Promise<LoopbackResponse & { body: Buffer }>
  /** Leaves new connections neither accepted nor refused, like a firewall that drops packets. */
  deafen: () => Promise<void>
}

/** Headers that apply to one connection, or to the transfer coding of a body. */
const ofAConnection = new Set(['connection', 'keep-alive', 'transfer-encoding'])

async function pass (
  upstream: URL,
  request: LoopbackRequest,
  path: string
): Promise<LoopbackResponse & { body: Buffer }> {
  const { promise, resolve, reject } = Promise.withResolvers<LoopbackResponse & { body: Buffer }>()
  const passed = ask({
    host: upstream.hostname,
    port: upstream.port,
    path,
    method: request.method,
    headers: request.headers,
    agent: false
  }, response => {
    const headers = Object.fromEntries(Object.entries(response.headers).filter(([name]) => !ofAConnection.has(name)))
    buffer(response).then(body => { resolve({ status: response.statusCode ?? 500, headers, body }) }, reject)
  })
  passed.once('error', reject)
  passed.end(request.body)
  return await promise
}

/** Listens and never accepts; the kernel completes one connection more than the backlog. */
const deaf = `
  const { parentPort, workerData } = require('node:worker_threads')
  require('node:net').createServer().listen({ port: workerData, host: '127.0.0.1', backlog: 1 }, () => {
    parentPort.postMessage('listening')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  })
`

/** Listens on a port with a full backlog, so that Linux drops further connection attempts without a response. */
async function listenDeaf (port: number): Promise<() => Promise<void>> {
  const worker = new Worker(deaf, { eval: true, workerData: port })
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  const sockets = await Promise.all([0, 1].map(async () => await new Promise<Socket>((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => { resolve(socket) })
    socket.once('error', reject)
  })))
  return async () => {
    sockets.forEach(socket => { socket.on('error', () => {}).destroy() })
    await worker.terminate()
  }
}

/** Starts a server that passes on the responses of the upstream at `url`, until a fault is set. */
export async function createFaultServer (url: string): Promise<FaultServer> {
  const upstream = new URL(url)
  const truth = async (request: LoopbackRequest, path = request.path) => await pass(upstream, request, path)
  const loopback = await createLoopback(truth)
  let receive: (() => Promise<void>) | undefined

  async function stop (): Promise<void> {
    await loopback.stop()
    await receive?.()
    receive = undefined
  }

  return Object.assign(loopback, {
    truth,
    deafen: async () => {
      await stop()
      receive = await listenDeaf(loopback.port)
    },
    close: stop
  })
}
