import { request as ask } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { connect, type Socket } from 'node:net'
import { Worker } from 'node:worker_threads'
import { createLoopback, type Loopback, type LoopbackAnswer, type LoopbackRequest } from './loopback.ts'

/**
 * A server on 127.0.0.1 in front of any upstream, a fake or a real one. It passes requests on with the headers that
 * they came with, `Host` included, so that an upstream which names itself in its answers names this server. Its `fault`
 * decides otherwise, and may be changed while it runs; the upstream is never touched by it.
 */
export interface FaultServer extends Loopback {
  /** What the upstream says to a request, or to the same one with another path. */
  truth: (request: LoopbackRequest, path?: string) => Promise<LoopbackAnswer & { body: Buffer }>
  /** From now on no connection comes about: neither accepted nor refused, as behind a firewall that drops packets. */
  deafen: () => Promise<void>
}

/** Headers that speak of one connection, or of a body in the form it had there. */
const ofAConnection = new Set(['connection', 'keep-alive', 'transfer-encoding'])

async function pass (
  upstream: URL,
  request: LoopbackRequest,
  path: string
): Promise<LoopbackAnswer & { body: Buffer }> {
  const { promise, resolve, reject } = Promise.withResolvers<LoopbackAnswer & { body: Buffer }>()
  const passed = ask({
    host: upstream.hostname,
    port: upstream.port,
    path,
    method: request.method,
    headers: request.headers,
    agent: false
  }, answer => {
    const headers = Object.fromEntries(Object.entries(answer.headers).filter(([name]) => !ofAConnection.has(name)))
    buffer(answer).then(body => { resolve({ status: answer.statusCode ?? 500, headers, body }) }, reject)
  })
  passed.once('error', reject)
  passed.end(request.body)
  return await promise
}

/**
 * Listens and never accepts; the kernel completes as many connections as the backlog holds, which is one more than it
 * is told.
 */
const deaf = `
  const { parentPort, workerData } = require('node:worker_threads')
  require('node:net').createServer().listen({ port: workerData, host: '127.0.0.1', backlog: 1 }, () => {
    parentPort.postMessage('listening')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  })
`

/** Listens on a port with a full backlog, so that Linux drops whoever else wants to connect, without an answer. */
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

/** Starts a server that says what the upstream at `url` says, until a fault is set. */
export async function createFaultServer (url: string): Promise<FaultServer> {
  const upstream = new URL(url)
  const truth = async (request: LoopbackRequest, path = request.path) => await pass(upstream, request, path)
  const loopback = await createLoopback(truth)
  let hear: (() => Promise<void>) | undefined

  async function stop (): Promise<void> {
    await loopback.stop()
    await hear?.()
    hear = undefined
  }

  return Object.assign(loopback, {
    truth,
    deafen: async () => {
      await stop()
      hear = await listenDeaf(loopback.port)
    },
    close: stop
  })
}
