import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { matchStrictly } from '../../fakes/match.ts'
import { bytesOf, contentOfFiles, digestOf, fileOf, listenBeforeStorage } from '../../fakes/storage.ts'

const big = fileOf(8 * 1024 * 1024)
const held = 32 * 1024
/** Range of a resumed request. Its start varies, as bytes in transit at the failure are requested again. */
const part = /^bytes=\d+-$/
const at = (part: number) => Math.floor(big.length * part)

await t.test('ten concurrent downloads share one transfer, which resumes where the upstream failed', async t => {
  const { url, storage, metric, idle } = await listenBeforeStorage(t, big, { cuts: [at(0.3), at(0.6), at(0.9)] })
  const all = await Promise.all(Array.from({ length: 10 }, async () => await bytesOf(await fetch(url))))
  for (const bytes of all) t.ok(bytes.equals(big))
  matchStrictly(t, storage.requests, [undefined, part, part, part])
  t.ok(storage.sent <= big.length * 1.1, `${storage.sent} bytes for ${big.length}`)
  t.equal(await metric('transfers_resumed_total{backend="oci"}'), 3)
  t.equal(await metric('download_bytes_total{source="upstream"}'), big.length)
  t.equal(await metric('download_bytes_total{source="coalesced"}'), big.length * 9)
  await idle()
  await bytesOf(await fetch(url))
  t.equal(storage.requests.length, 4, 'the eleventh download is served from the store')
  t.equal(await metric('download_bytes_total{source="store"}'), big.length)
})

await t.test('if the upstream has no range support, or another file, the transfer starts again and known bytes are ' +
  'not repeated', async t => {
  const noRanges = await listenBeforeStorage(t, big, { ranges: false, cuts: [at(0.5)] })
  t.ok((await bytesOf(await fetch(noRanges.url))).equals(big))
  t.equal(noRanges.storage.requests.length, 2)
  const other = await listenBeforeStorage(t, big, { cuts: [at(0.5)] })
  const opened = Promise.withResolvers<void>()
  other.storage.hold = [at(0.25), opened.promise]
  const response = await fetch(other.url)
  other.storage.etag = '"two"'
  opened.resolve()
  t.ok((await bytesOf(response)).equals(big))
  matchStrictly(t, other.storage.requests, [undefined, part, undefined], 'a part with another validator is not used')
})

await t.test('a transfer fails if the file has changed when it starts again', async t => {
  const { url, storage, metric } = await listenBeforeStorage(t, big, { ranges: false, cuts: [at(0.5)] })
  const opened = Promise.withResolvers<void>()
  storage.hold = [at(0.25), opened.promise]
  const response = await fetch(url)
  storage.content = fileOf(big.length, 'another')
  opened.resolve()
  await t.rejects(response.arrayBuffer())
  t.equal(await metric('checksum_failures_total{backend="oci"}'), 1)
})

await t.test('a corrupt file is never complete, is counted and not stored, and recovers with the upstream', async t => {
  const { url, storage, metric, idle, statistics } = await listenBeforeStorage(t, big)
  storage.content = Buffer.from(big)
  storage.content.writeUInt8(storage.content.readUInt8(5) ^ 1, 5)
  const response = await fetch(url)
  t.equal(Number(response.headers.get('content-length')), big.length)
  let seen = 0
  await t.rejects(async () => { for await (const chunk of response.body ?? []) seen += (chunk as Uint8Array).length })
  t.equal(seen, big.length - held, 'everything except the end was sent')
  t.equal(await metric('checksum_failures_total{backend="oci"}'), 1)
  matchStrictly(t, statistics(), { entries: 0, bytes: 0 })
  t.equal(
    (await fetch(url, { headers: { range: `bytes=${big.length - 10}-` } })).status,
    503,
    'nothing of a range is sent that is withheld completely, so that the error can be sent'
  )
  storage.content = big
  t.ok((await bytesOf(await fetch(url))).equals(big))
  await idle()
  matchStrictly(t, statistics(), { entries: 1, bytes: big.length })
})

await t.test('a corrupt file is logged once, even after its client has disconnected', async t => {
  const { app, url, storage, idle } = await listenBeforeStorage(t, big)
  const warnings = t.capture(app.log, 'warn')
  storage.content = Buffer.from(big)
  storage.content.writeUInt8(storage.content.readUInt8(5) ^ 1, 5)
  const opened = Promise.withResolvers<void>()
  storage.hold = [at(0.5), opened.promise]
  const hangUp = new AbortController()
  const response = await fetch(url, { signal: hangUp.signal })
  await response.body?.getReader().read()
  hangUp.abort()
  opened.resolve()
  await idle()
  matchStrictly(t, warnings().map(({ args }) => args), [[{
    backend: 'oci',
    extension: 'taskserv/big',
    version: '1.0.0',
    details: 'File is damaged'
  }, 'a file differs from the published file: the download was stopped']])
})

await t.test('the end of a range of a file in transfer is withheld, like the end of the whole file', async t => {
  const { url, storage } = await listenBeforeStorage(t, big)
  const opened = Promise.withResolvers<void>()
  storage.hold = [at(0.5), opened.promise]
  const whole = await fetch(url)
  const response = await fetch(url, { headers: { range: `bytes=1000-${1000 + 100 * 1024 - 1}` } })
  matchStrictly(t, [response.status, response.headers.get('content-range'), response.headers.get('content-length')], [
    206,
    `bytes 1000-${1000 + 100 * 1024 - 1}/${big.length}`,
    String(100 * 1024)
  ])
  const reader = response.body?.getReader()
  const read: Buffer[] = []
  let seen = 0
  for (let chunk = await reader?.read(); chunk?.value !== undefined; chunk = await reader?.read()) {
    read.push(Buffer.from(chunk.value))
    seen += chunk.value.length
    if (seen === 100 * 1024 - held) opened.resolve()
    t.ok(seen <= 100 * 1024 - held || storage.sent === big.length, 'the end is sent only after all bytes are verified')
  }
  t.ok(Buffer.concat(read).equals(big.subarray(1000, 1000 + 100 * 1024)))
  t.ok((await bytesOf(whole)).equals(big))
  t.equal(storage.requests.length, 1)
})

await t.test('a client that disconnects affects neither waiting clients nor the next client', async t => {
  const { url, storage, idle, statistics } = await listenBeforeStorage(t, big)
  const opened = Promise.withResolvers<void>()
  storage.hold = [at(0.5), opened.promise]
  const hangUp = new AbortController()
  const [first, second] = [await fetch(url, { signal: hangUp.signal }), await fetch(url)]
  await first.body?.getReader().read()
  hangUp.abort()
  opened.resolve()
  t.ok((await bytesOf(second)).equals(big))
  t.equal(storage.requests.length, 1)
  await idle()
  t.equal(statistics().entries, 1)
})

await t.test('a file without a waiting client is transferred to its end, if it is not too large', async t => {
  const finished = await listenBeforeStorage(t, big, { config: { store: { finish_bytes: big.length } } })
  const hangUp = new AbortController()
  const opened = Promise.withResolvers<void>()
  finished.storage.hold = [at(0.5), opened.promise]
  await fetch(finished.url, { signal: hangUp.signal })
  hangUp.abort()
  opened.resolve()
  t.ok((await bytesOf(await fetch(finished.url))).equals(big))
  t.equal(finished.storage.requests.length, 1)
})

await t.test('without a store each download is verified and resumed', async t => {
  for (const store of [{ enabled: false }, { max_bytes: big.length - 1 }]) {
    const { url, storage, metric } = await listenBeforeStorage(t, big, { cuts: [at(0.5)], config: { store } })
    t.ok((await bytesOf(await fetch(url))).equals(big))
    t.ok(
      (await bytesOf(await fetch(url, { headers: { range: 'bytes=5-1000000' } }))).equals(big.subarray(5, 1_000_001))
    )
    t.equal(storage.requests.length, 3)
    t.equal(await metric('download_bytes_total{source="passed"}'), big.length + 999_996)
    storage.content = fileOf(big.length, 'another')
    for (const [headers, status] of [[{}, 200], [{ range: 'bytes=5-1000000' }, 206]] as const) {
      const damaged = await fetch(url, { headers })
      t.equal(damaged.status, status, 'the response begins')
      await t.rejects(async () => await bytesOf(damaged), 'and does not end')
    }
  }
})

await t.test('another instance with the same file continues where its owner fails', async t => {
  const { url, storage, fake, metric } = await listenBeforeStorage(t, big, { config: {} })
  const twin = await listenBeforeStorage(t, big)
  const both = await listenBeforeStorage(t, big, {
    config: {
      oci: [{ name: 'first', registry: fake.url, redirect_hosts: [storage.host], timeout_seconds: 1 }, {
        name: 'second',
        registry: twin.fake.url,
        redirect_hosts: [twin.storage.host],
        timeout_seconds: 1
      }]
    }
  })
  await both.get('/api/v1/extensions')
  const broken = Promise.withResolvers<void>()
  storage.hold = [at(0.5), broken.promise]
  storage.cuts = [at(0.5)]
  const response = await fetch(both.url)
  await fake.stop()
  broken.resolve()
  t.ok((await bytesOf(response)).equals(big))
  matchStrictly(t, twin.storage.requests, [part])
  t.equal(storage.requests.length, 1)
  t.type(await metric('transfers_active'), 'number')
  t.not(url, both.url)
})

await t.test('a kept connection that ends when it is used again does not fail a download', async t => {
  const file = fileOf(100_000)
  const { url, storage } = await listenBeforeStorage(t, file, { config: { store: { enabled: false } } })
  storage.reuse = false
  for (let times = 0; times < 4; times++) t.ok((await bytesOf(await fetch(url))).equals(file))
  t.equal(storage.requests.length, 4)
})

await t.test('a file that cannot be transferred evicts nothing from the store', async t => {
  const small = fileOf(100_000)
  const { fake, oci } = await listenBeforeStorage(t, small)
  for (const [repository, content] of contentOfFiles({ 'taskserv/other': big })) fake.content.set(repository, content)
  const { url, idle, statistics } = await listenBeforeStorage(t, small, {
    config: { oci, store: { max_bytes: big.length } }
  })
  await bytesOf(await fetch(url))
  await idle()
  t.equal((await fetch(url.replace('/big/', '/other/'))).status, 503)
  matchStrictly(t, statistics(), { entries: 1, bytes: small.length, reserved: 0, evictions: 0 })
})

await t.test('partial files are removed, and a directory that cannot be written does not fail ' +
  'downloads', async t => {
  const directory = t.testdir({ file: 'no directory' })
  const { url, storage, get, metric } = await listenBeforeStorage(t, big, {
    config: { store: { directory: join(directory, 'file', 'store') } }
  })
  for (let times = 0; times < 3; times++) t.ok((await bytesOf(await fetch(url))).equals(big))
  t.equal(storage.requests.length, 3)
  t.equal(await metric('store_failures_total'), 1, 'the directory is not tried each time')
  t.equal(await metric('store_usable'), 0)
  t.equal((await get('/health')).json<{ status: string }>().status, 'healthy')
  const kept = await listenBeforeStorage(t, big, { config: { store: { directory: join(directory, 'kept') } } })
  await bytesOf(await fetch(kept.url))
  await kept.app.close()
  t.strictSame(await readdir(join(directory, 'kept', 'tmp')), [])
  t.strictSame(await readdir(join(directory, 'kept', 'blobs', 'sha256', digestOf(big).slice(7, 9))), [
    digestOf(big).slice(7)
  ])
})
