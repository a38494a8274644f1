import { createHash, randomBytes } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { imageCommand } from '../real/image-command.ts'
import { freePort, listening, peakRss, resident, start, stop } from '../../bench/process.ts'
import { quantile } from '../soak/report.ts'

const mib = 1024 * 1024
const readers = 100
/** Seconds of reading, in which the complete file is received from its upstream. */
const seconds = 15
/** Maximum resident memory of the process, in bytes. */
const maxMemory = 150e6
const block = randomBytes(mib)
const blocks = 1024

function * content (): Generator<Buffer> {
  for (let number = 0; number < blocks; number++) yield block
}

/** Starts an upstream with one version of one extension: a file of 1 GiB, generated while it is sent. */
async function startUpstream () {
  const digestOf = (bytes: string) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
  const hash = createHash('sha256')
  for (const piece of content()) hash.update(piece)
  const layer = `sha256:${hash.digest('hex')}`
  const config = '{}'
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    artifactType: 'application/vnd.example',
    config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(config), size: config.length },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: layer, size: block.length * blocks }]
  })
  let files = 0
  const send = (response: ServerResponse, body: string, type: string) => {
    response.writeHead(200, {
      'content-type': type,
      'docker-content-digest': digestOf(body),
      'content-length': body.length
    }).end(body)
  }
  const server = createServer(({ url = '' }, response) => {
    if (url.includes('/tags/list')) {
      send(response, JSON.stringify({ name: 'provisioning/provider/huge', tags: ['1.0.0'] }), 'application/json')
    } else if (url.includes('/manifests/')) send(response, manifest, 'application/vnd.oci.image.manifest.v1+json')
    else if (url.endsWith(layer)) {
      files++
      response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': block.length * blocks })
      Readable.from(content(), { objectMode: false }).pipe(response)
    } else if (url.endsWith(digestOf(config))) send(response, config, 'application/octet-stream')
    else send(response, '{}', 'application/json')
  }).listen(0, '127.0.0.1')
  await new Promise(resolve => {
    server.once('listening', resolve)
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    files: () => files,
    close () {
      server.closeAllConnections()
      server.close()
    }
  }
}

/** Requests the file and reads one buffer of it every `pause` milliseconds. */
function readSlowly (port: number, pause: number): { socket: Socket, bytes: () => number } {
  let bytes = 0
  const socket = connect({ port, host: '127.0.0.1' }, () => {
    socket.write('GET /api/v1/extensions/provider/huge/1.0.0 HTTP/1.1\r\nhost: localhost\r\n\r\n')
  })
  socket.on('error', () => {})
  // Without a listener the socket would not read at all; unread data stays in the buffers.
  socket.on('readable', () => {})
  const timer = setInterval(() => { bytes += (socket.read() as Buffer | null)?.length ?? 0 }, pause)
  socket.once('close', () => { clearInterval(timer) })
  return { socket, bytes: () => bytes }
}

await t.test('a hundred slow readers of 1 GiB neither exhaust memory nor delay other requests', async t => {
  const upstream = await startUpstream()
  t.teardown(() => { upstream.close() })
  const port = await freePort()
  const folder = t.testdir({})
  // The program starts as in the image, without the options that tap adds to NODE_OPTIONS.
  const image = imageCommand(folder)
  const program = start('env', ['-u', 'NODE_OPTIONS', process.execPath, ...image.args], {
    env: {
      ...image.env,
      REGISTRY_SERVER_PORT: String(port),
      REGISTRY_SERVER_HOST: '127.0.0.1',
      REGISTRY_SERVER_SHUTDOWN_DELAY_SECONDS: '0',
      REGISTRY_LOG_LEVEL: 'warn',
      REGISTRY_OCI_REGISTRY: upstream.url,
      REGISTRY_OCI_NAMESPACE: 'provisioning',
      REGISTRY_OCI_DISCOVERY: 'list',
      REGISTRY_OCI_REPOSITORIES: 'provider/huge',
      REGISTRY_STORE_DIRECTORY: join(folder, 'store')
    }
  })
  t.teardown(async () => { await stop(program) })
  await listening(port, program)
  const { pid } = program
  const send = async () => {
    const began = performance.now()
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/extensions`)
    await response.arrayBuffer()
    t.equal(response.status, 200)
    return performance.now() - began
  }
  await send()
  const idle = await peakRss(pid)

  const slow = Array.from({ length: readers }, (_, number) => readSlowly(port, 400 + number))
  t.teardown(() => { for (const { socket } of slow) socket.destroy() })
  const times: number[] = []
  for (const end = performance.now() + seconds * 1000; performance.now() < end; await sleep(200)) {
    times.push(await send())
  }

  const [peak, last] = [await peakRss(pid), await resident(pid)]
  t.comment(
    `memory: ${(idle / mib).toFixed(0)} MiB maximum before, ${(peak / mib).toFixed(0)} maximum, ${
      (last / mib).toFixed(0)
    } at the end; JSON: p50 ${quantile(times, 0.5).toFixed(1)} ms, maximum ${Math.max(...times).toFixed(0)} ms`
  )
  t.ok(slow.every(({ bytes }) => bytes() > mib), 'every reader receives data')
  t.equal(upstream.files(), 1, 'all readers share one transfer')
  t.ok(peak < maxMemory, `${(peak / mib).toFixed(0)} MiB at most`)
  t.ok(Math.max(...times) < 1000, 'JSON responses are not delayed')
})
