import { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { startApp } from '../fakes/app.ts'
import { createGiteaFake, provisioningContent } from '../fakes/gitea.ts'
import { matchStrictly } from '../fakes/match.ts'

/** Starts a Gitea whose `aws` 1.2.0 has no checksum, and the registry over it. */
async function setUp (t: Test, store: object = {}, server: object = {}) {
  const gitea = await createGiteaFake(provisioningContent())
  t.teardown(gitea.close)
  gitea.detach('aws_prov', '1.2.0', 'aws_prov.tar.gz.sha256')
  const files = new Set<string>()
  const replace = (content: string) => {
    gitea.detach('aws_prov', '1.2.0', 'aws_prov.tar.gz')
    files.add(`/attachments/${gitea.attach('aws_prov', '1.2.0', { name: 'aws_prov.tar.gz', content }).uuid}`)
  }
  replace('the first one')
  const config = { gitea: { url: gitea.url, organization: 'provisioning' }, store, server }
  const { get, clock, app } = await startApp(t, config)
  const path = '/api/v1/extensions/provider/aws/1.2.0'
  const idle = async () => {
    while (app.downloads.active() > 0) {
      await new Promise(resolve => {
        setImmediate(resolve)
      })
    }
  }
  const download = async () => {
    clock.forward(301)
    const { statusCode, body, headers } = await get(path)
    await idle()
    return { statusCode, body, headers }
  }
  const fetched = () => gitea.requests.filter(({ path }) => files.has(path)).length
  const metric = async () => /^rereleases_total\{backend="gitea"\} (\d+)$/m.exec((await get('/metrics')).body)?.[1]
  const head = async (url: string) => await app.inject({ method: 'HEAD', url })
  return { head, replace, download, fetched, metric, get, path, gitea, clock, idle }
}

await t.test('a version without a checksum is transferred once, and later responses contain its digest', async t => {
  const { download, fetched, get, path } = await setUp(t)
  const first = await download()
  matchStrictly(t, [first.statusCode, first.body, first.headers['repr-digest']], [200, 'the first one', undefined])
  const second = await download()
  matchStrictly(t, [second.body, second.headers['repr-digest'], second.headers.etag], [
    'the first one',
    /^sha-256=:/,
    first.headers.etag
  ])
  t.equal(
    (await get(path.replace('/1.2.0', ''))).json<{ checksum?: string }>().checksum,
    undefined,
    'the digest is not reported as a published checksum'
  )
  t.equal(fetched(), 1)
})

await t.test('a rerelease with on_rerelease = serve is served, and counted once', async t => {
  const { download, replace, metric } = await setUp(t)
  const before = await download()
  replace('the second one')
  const after = await download()
  t.equal(after.body, 'the second one')
  t.not(after.headers.etag, before.headers.etag)
  await download()
  t.equal(await metric(), '1')
  replace('the second one')
  t.equal((await download()).body, 'the second one')
  t.equal(await metric(), '1', 'the same content at a new address is not a rerelease')
})

await t.test('a rerelease with on_rerelease = refuse is refused from the first response, without a byte', async t => {
  for (const size of [100, 100_000]) {
    const { download, replace, metric, get, head, path, fetched } = await setUp(t, { on_rerelease: 'refuse' })
    await download()
    replace('x'.repeat(size))
    for (let times = 0; times < 2; times++) {
      const { statusCode, body, headers } = await download()
      t.equal(statusCode, 409)
      matchStrictly(t, JSON.parse(body), {
        error: 'conflict',
        message: 'Extension provider/aws version 1.2.0 was published again with different content'
      })
      t.equal(headers.etag, undefined)
    }
    t.equal(fetched(), 2, 'the second response needs no transfer')
    t.equal((await get(path)).statusCode, 409)
    t.equal((await head(path)).statusCode, 409)
    t.equal(await metric(), '1')
    replace('the first one')
    matchStrictly(t, await download(), { statusCode: 200, body: 'the first one' })
  }
})

await t.test('a file that may be refused is transferred to its end, even if the request times out before ' +
  'that', async t => {
  const { download, replace, fetched, get, path, gitea, clock, idle } = await setUp(t, {
    on_rerelease: 'refuse',
    finish_bytes: 0
  }, { request_budget_seconds: 1 })
  await download()
  replace('the first one')
  clock.forward(301)
  const opened = Promise.withResolvers<void>()
  async function * slowly () {
    yield 'the first'
    await opened.promise
    yield ' one'
  }
  gitea.fault = ({ path }) =>
    path.startsWith('/attachments/')
      ? { status: 200, headers: { 'content-length': 13 }, body: Readable.from(slowly(), { objectMode: false }) }
      : undefined
  matchStrictly(t, await get(path), { statusCode: 503 })
  t.equal(fetched(), 2)
  opened.resolve()
  await idle()
  matchStrictly(t, await get(path), { statusCode: 200, body: 'the first one' })
  t.equal(fetched(), 2)
})
