import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { createCuttingProxy } from '../fakes/cutting-proxy.ts'
import { startDockerRegistry } from '../real/docker-registry.ts'
import { digestOf, fileOf, published, publishFiles } from '../real/published-files.ts'
import { curl, startCurl } from './curl.ts'
import { startDownloads } from './download-setting.ts'
import { matchStrictly } from '../fakes/match.ts'

const size = 16 * 1000 * 1000
const content = fileOf(size)
const digest = digestOf(content)
const etag = `"${digest}"`

const folder = t.testdir({})
const docker = await startDockerRegistry(t, join(folder, 'registry'))
const publish = async (content: Buffer) => {
  await publishFiles(docker, join(folder, 'layouts'), [{
    repository: 'provisioning/taskserv/big',
    title: 'big taskserv.tar.gz',
    content
  }])
}
await publish(content)

/** Starts the real process with an empty store and a proxy that pauses the file at byte `holdAt` until `open()`. */
async function start (t: Parameters<typeof createCuttingProxy>[0], name: string, { holdAt = 0, env = {} } = {}) {
  const proxy = await createCuttingProxy(t, docker, { path: new RegExp(`/blobs/${digest}$`) })
  const { promise, resolve: open } = Promise.withResolvers<void>()
  if (holdAt > 0) proxy.hold = [holdAt, promise]
  const store = join(folder, name)
  const upstream = { REGISTRY_OCI_REGISTRY: proxy.url, REGISTRY_OCI_NAMESPACE: 'provisioning', ...env }
  const setting = await startDownloads(t, store, upstream)
  return {
    ...setting,
    url: setting.file('taskserv', 'big'),
    proxy,
    open,
    again: async (more: Record<string, string>) => await startDownloads(t, store, { ...upstream, ...more })
  }
}

/** Reads at least `least` bytes from curl and kills it; returns the received bytes. */
async function readSome (url: string, least: number): Promise<Buffer> {
  const { body, exit, kill } = startCurl(url)
  const chunks: Buffer[] = []
  let seen = 0
  for await (const chunk of body) {
    chunks.push(chunk as Buffer)
    seen += (chunk as Buffer).length
    if (seen >= least) break
  }
  kill()
  await exit
  return Buffer.concat(chunks)
}

await t.test('curl -C - resumes its interrupted download, during the transfer and from the store', async t => {
  const { url, proxy, open, metric, idle } = await start(t, 'broken-off', { holdAt: size / 2 })
  const begun = await readSome(url, size / 4)
  t.ok(begun.length < size / 2)
  const names = ['growing', 'stored'].map(name => join(folder, name))
  for (const name of names) await writeFile(name, begun)
  const [growing = '', stored = ''] = names
  const resuming = curl(folder, '--continue-at', '-', '--output', growing, url)
  // The resumed download continues up to the byte at which the upstream pauses.
  while ((await readFile(growing)).length < size / 2 - 256 * 1024) await sleep(10)
  open()
  matchStrictly(t, await resuming, {
    exit: 0,
    status: 206,
    size: size - begun.length,
    headers: { 'content-range': `bytes ${begun.length}-${size - 1}/${size}`, etag }
  })
  await idle()
  t.equal(await metric('download_bytes_total{source="store"}'), 0)
  matchStrictly(t, await curl(folder, '--continue-at', '-', '--output', stored, url), { exit: 0, status: 206 })
  t.equal(await metric('download_bytes_total{source="store"}'), size - begun.length)
  for (const name of names) t.equal(digestOf(await readFile(name)), digest)
  t.strictSame(proxy.requests, [undefined], 'the upstream received one request')
  matchStrictly(
    t,
    await curl(folder, '--continue-at', '-', '--output', stored, url),
    { exit: 0, status: 416 },
    'a complete file stays unchanged'
  )
  t.equal(digestOf(await readFile(stored)), digest)
})

await t.test('curl -C - resumes a download after the registry was killed and restarted', async t => {
  const { address, url, open, kill, end, again } = await start(t, 'killed', { holdAt: size / 2 })
  const file = join(folder, 'killed.tar.gz')
  const broken = curl(folder, '--output', file, url)
  while ((await readFile(file).catch(() => '')).length < size / 4) await sleep(10)
  kill('SIGKILL')
  await end
  matchStrictly(t, await broken, { exit: 18, status: 200 })
  t.ok((await readFile(file)).length < size)
  open()
  await again({ REGISTRY_SERVER_PORT: new URL(address).port })
  matchStrictly(t, await curl(folder, '--continue-at', '-', '--output', file, url), { exit: 0, status: 206 })
  t.equal(digestOf(await readFile(file)), digest)
})

await t.test('eight concurrent ranges form the complete file, during the transfer and from the store', async t => {
  const parts = 8
  const { url, proxy, open, metric, idle } = await start(t, 'ranges', { holdAt: size - 1000 * 1000 })
  const send = () =>
    Array.from(
      { length: parts },
      (_, part) => startCurl('--range', `${part * size / parts}-${(part + 1) * size / parts - 1}`, url)
    )
  const curls = send()
  const bodies = Promise.all(curls.map(async ({ body }) => await buffer(body)))
  // Every range has started and has not ended.
  await Promise.race([Promise.all(curls.map(async ({ begun }) => await begun)), bodies])
  t.ok(curls.every(({ body }) => !body.readableEnded))
  open()
  t.ok(Buffer.concat(await bodies).equals(content))
  t.equal(await metric('download_bytes_total{source="store"}'), 0)
  await idle()
  t.ok(Buffer.concat(await Promise.all(send().map(async ({ body }) => await buffer(body)))).equals(content))
  t.equal(await metric('download_bytes_total{source="store"}'), size)
  t.strictSame(proxy.requests, [undefined], 'the upstream received one request')
})

await t.test('the real curl receives correct ranges, conditional responses, file names and HEAD responses', async t => {
  const { url } = await start(t, 'http')
  const got = join(folder, 'got')
  const send = async (...args: string[]) => await curl(folder, '--output', got, ...args, url)

  matchStrictly(t, await send(), { exit: 0, status: 200 })
  const ranges: Record<string, [number, number]> = {
    '0-0': [0, 1],
    '100-299': [100, 300],
    '15999990-': [15_999_990, size],
    '-10': [size - 10, size],
    '15999990-99999999': [15_999_990, size]
  }
  for (const [range, [start, end]] of Object.entries(ranges)) {
    matchStrictly(t, await send('--range', range), {
      exit: 0,
      status: 206,
      headers: { 'content-range': `bytes ${start}-${end - 1}/${size}`, 'content-length': String(end - start) }
    }, `a range ${range}`)
    t.ok((await readFile(got)).equals(content.subarray(start, end)))
  }
  for (const range of [`${size}-`, '99999999-']) {
    matchStrictly(
      t,
      await send('--range', range),
      { exit: 0, status: 416, headers: { 'content-range': `bytes */${size}` } },
      `a range ${range}`
    )
    matchStrictly(t, JSON.parse(await readFile(got, 'utf8')), { error: 'range_not_satisfiable' })
  }
  matchStrictly(t, await send('--fail', '--range', `${size}-`), { exit: 22, status: 416 })

  matchStrictly(t, await send('--range', '100-299', '--header', `If-Range: ${etag}`), { status: 206, size: 200 })
  for (const other of [`"sha256:${'0'.repeat(64)}"`, `W/${etag}`, new Date(published).toUTCString()]) {
    matchStrictly(
      t,
      await send('--range', '100-299', '--header', `If-Range: ${other}`),
      { status: 200, size },
      `If-Range: ${other}`
    )
    t.equal(digestOf(await readFile(got)), digest)
  }

  matchStrictly(t, await send('--etag-save', join(folder, 'etag')), { status: 200, size })
  t.equal(await readFile(join(folder, 'etag'), 'utf8'), `${etag}\n`)
  const known = await send('--etag-compare', join(folder, 'etag'))
  matchStrictly(t, known, { exit: 0, status: 304, size: 0, headers: { etag } })
  matchStrictly(t, await send('--header', 'If-None-Match: "other"'), { status: 200, size })

  const named = await curl(folder, '--remote-name', '--remote-header-name', url)
  matchStrictly(t, named, { exit: 0, status: 200, file: 'big taskserv.tar.gz' })
  t.equal(digestOf(await readFile(join(folder, 'big taskserv.tar.gz'))), digest)

  const head = await curl(folder, '--head', url)
  matchStrictly(t, head, {
    exit: 0,
    status: 200,
    size: 0,
    headers: {
      'content-length': String(size),
      'accept-ranges': 'bytes',
      etag,
      'last-modified': new Date(published).toUTCString(),
      'repr-digest': `sha-256=:${Buffer.from(digest.slice('sha256:'.length), 'hex').toString('base64')}:`
    }
  })
  /** Returns the headers without the values that differ in each response: times and the request id. */
  const lasting = ({ headers }: { headers: Record<string, string> }) =>
    Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [
        name,
        name === 'date' || name === 'x-request-id'
          ? ''
          : /^(?:age|cache-control|cache-status|x-cache-ttl)$/.test(name)
            ? value.replace(/\d+/g, '0')
            : value
      ])
    )
  t.strictSame(lasting(head), lasting(named), 'HEAD returns the same headers as GET')
})

await t.test(
  'If-Range restarts the download of a republished version and If-Match rejects it: two files are never ' +
    'joined',
  async t => {
    const { url, metric } = await start(t, 'published-again', { env: { REGISTRY_CACHE_TTL_SECONDS: '1' } })
    const got = join(folder, 'mended')
    const begun = await readSome(url, size / 4)
    const other = fileOf(size, 'another')
    await publish(other)
    const current = `"${digestOf(other)}"`
    while ((await curl(folder, '--head', url)).headers.etag !== current) await sleep(50)
    const resume = async (validator: string, header = 'If-Range') => {
      await writeFile(got, begun)
      return await curl(
        folder,
        '--output',
        got,
        '--range',
        `${begun.length}-`,
        '--header',
        `${header}: ${validator}`,
        url
      )
    }
    matchStrictly(t, await resume(etag), { exit: 0, status: 200, size, headers: { etag: current } })
    t.equal(digestOf(await readFile(got)), digestOf(other), 'the previous validator gives the complete new file')
    matchStrictly(t, await resume(current), {
      exit: 0,
      status: 206,
      size: size - begun.length,
      headers: { etag: current }
    })
    t.ok((await readFile(got)).equals(other.subarray(begun.length)), 'the current validator gives the range')
    // A browser resumes with If-Match.
    const refused = await resume(etag, 'If-Match')
    matchStrictly(t, [refused.status, refused.headers.etag, refused.headers['cache-control']], [
      412,
      undefined,
      'no-store'
    ])
    matchStrictly(t, JSON.parse(await readFile(got, 'utf8')), { error: 'precondition_failed' })
    matchStrictly(t, await resume(current, 'If-Match'), {
      exit: 0,
      status: 206,
      size: size - begun.length,
      headers: { etag: current }
    })
    t.equal(await metric('checksum_failures_total{backend="oci"}'), 0)
  }
)
