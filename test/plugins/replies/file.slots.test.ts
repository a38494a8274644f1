import { EventEmitter, once } from 'node:events'
import { connect } from 'node:net'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { serverOptions } from '../../../app.ts'
import { createDownloadSlots } from '../../../plugins/replies/file.ts'
import { whole } from '../../fakes/app.ts'
import { createGiteaFake, provisioningContent } from '../../fakes/gitea.ts'
import { hasLine } from '../../fakes/match.ts'

const file = '/api/v1/extensions/taskserv/kubernetes/1.28.0'
const archive = /^\/attachments\//

/** Starts the registry on a real port with one download slot, and a Gitea whose files stall in the middle. */
async function listen (t: Test, options: object = {}) {
  const gitea = await createGiteaFake(provisioningContent())
  const app = Fastify({ ...serverOptions(), logger: false, ...options })
  t.teardown(async () => {
    app.server.closeAllConnections()
    await app.close()
    await gitea.close()
  })
  await app.register(whole, {
    config: {
      // A busy machine delays the event loop.
      server: { max_downloads: 1, max_event_loop_delay_seconds: 0 },
      store: { enabled: false },
      gitea: { url: gitea.url, organization: 'provisioning' }
    }
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  // A crawl reads checksum files, which stall like the others after this.
  for (const [path, method] of [['/api/v1/extensions', 'GET'], [file, 'HEAD']] as const) {
    await (await fetch(`${url}${path}`, { method })).arrayBuffer()
  }
  gitea.fault = ({ path }) => archive.test(path) ? 'stall' : undefined
  const active = async () => Number(/^downloads_active (\d+)$/m.exec((await app.inject('/metrics')).body)?.[1])
  /** Resolves when this number of downloads is active; the timeout of the test limits the wait. */
  const settled = async (expected: number) => {
    while (await active() !== expected) {
      await new Promise(resolve => {
        setImmediate(resolve)
      })
    }
  }
  return { app, gitea, url, port: Number(new URL(url).port), active, settled }
}

await t.test('a download beyond the maximum is refused until another download ends', async t => {
  const { app, gitea, url, active, settled } = await listen(t)
  t.equal(await active(), 0)
  const hangUp = new AbortController()
  const first = await fetch(`${url}${file}`, { signal: hangUp.signal })
  t.equal(first.status, 200)
  t.equal(await active(), 1)

  const second = await fetch(`${url}${file}`)
  t.equal(second.status, 503)
  t.match(second.headers.get('retry-after'), /^\d+$/)
  t.strictSame(await second.json(), { error: 'service_unavailable', message: 'Too many downloads at once' })
  t.equal(second.headers.get('content-disposition'), null)
  hasLine(t, (await app.inject('/metrics')).body, 'requests_shed_total{reason="downloads"} 1')

  t.equal((await fetch(`${url}${file}`, { method: 'HEAD' })).status, 200, 'HEAD takes no slot')
  t.equal(
    (await fetch(`${url}${file}`, { headers: { 'if-none-match': first.headers.get('etag') ?? '' } })).status,
    304,
    '304 takes no slot'
  )
  t.equal(
    (await fetch(`${url}/api/v1/extensions/taskserv/kubernetes/latest`, { redirect: 'manual' })).status,
    302,
    '302 takes no slot'
  )
  t.equal((await fetch(`${url}/api/v1/extensions`)).status, 200)

  hangUp.abort()
  await settled(0)
  gitea.fault = undefined
  for (const round of [1, 2, 3]) {
    t.ok((await (await fetch(`${url}${file}`)).arrayBuffer()).byteLength > 0, `complete, ${round}`)
  }
  await settled(0)
})

await t.test('every slot is released, for any end of a download', async t => {
  const { gitea, url, port, settled } = await listen(t)
  for (const fault of ['truncate', 'refuse-reset', { status: 500 }, { status: 404 }] as const) {
    gitea.fault = ({ path }) => archive.test(path) ? fault : undefined
    await (await fetch(`${url}${file}`)).arrayBuffer().catch(() => {})
    await settled(0)
  }
  gitea.fault = ({ path }) => archive.test(path) ? 'hang' : undefined
  const seen = gitea.count(archive)
  const client = connect(port, '127.0.0.1')
  client.write(`GET ${file} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
  await gitea.arrived(archive, seen + 1)
  await settled(1)
  client.resetAndDestroy()
  await settled(0)
  // Many clients that disconnect right after their request.
  for (let index = 0; index < 20; index++) {
    const one = connect(port, '127.0.0.1')
    await once(one, 'connect')
    one.write(`GET ${file} HTTP/1.1\r\nHost: localhost\r\n\r\n`, () => { one.resetAndDestroy() })
    await once(one, 'close')
  }
  await settled(0)
  gitea.fault = undefined
  t.equal((await fetch(`${url}${file}`)).status, 200)
})

await t.test('a download whose client does not read is aborted', async t => {
  const { gitea, port, settled } = await listen(t, { connectionTimeout: 1000 })
  gitea.fault = ({ path }) => archive.test(path) ? 'endless' : undefined
  gitea.requests.length = 0
  const client = connect(port, '127.0.0.1')
  t.teardown(() => { client.destroy() })
  client.on('error', () => {})
  client.pause()
  client.write(`GET ${file} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
  const transfer = await gitea.arrived(archive)
  t.equal(await transfer.over, 'aborted')
  await settled(0)
})

await t.test('a closed response takes no slot', async t => {
  const slots = createDownloadSlots(1)
  const reply = Object.assign(new EventEmitter(), { destroyed: true })
  t.ok(slots.take(reply as never))
  t.equal(slots.active(), 0)
  const other = Object.assign(new EventEmitter(), { destroyed: false })
  t.ok(slots.take(other as never))
  t.notOk(slots.take(other as never))
  other.emit('close')
  other.emit('close')
  t.equal(slots.active(), 0)
})
