import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { startApp } from '../fakes/app.ts'
import { createGiteaFake, provisioningContent, type GiteaFake } from '../fakes/gitea.ts'
import { hasLine, matchStrictly } from '../fakes/match.ts'

/** Starts the registry on a real port, with a fake Gitea. */
async function listen (t: Test, store: object = {}): Promise<{ gitea: GiteaFake, url: string, port: number }> {
  const gitea = await createGiteaFake(provisioningContent())
  const { app } = await startApp(t, {
    gitea: { url: gitea.url, organization: 'provisioning', timeout_seconds: 1 },
    store
  })
  t.teardown(gitea.close)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  // A disconnected client reconnects before its next request, and the server does not count that connection as idle.
  t.teardown(() => { app.server.closeAllConnections() })
  // The loads at the start end here, so that every later request is one of the test.
  await (await fetch(`${url}/api/v1/extensions`)).arrayBuffer()
  await (await fetch(`${url}/api/v1/extensions/taskserv/kubernetes/versions`)).arrayBuffer()
  gitea.requests.length = 0
  return { gitea, url: `${url}/api/v1/extensions`, port: Number(new URL(url).port) }
}
const archive = /^\/attachments\//

await t.test('a client that disconnects stops the transfer from the upstream, if the file is larger than ' +
  'the maximum of finish_bytes', async t => {
  const { gitea, url } = await listen(t, { finish_bytes: 262_243 })
  gitea.fault = ({ path }) => archive.test(path) ? 'stall' : undefined
  const hangUp = new AbortController()
  const response = await fetch(`${url}/taskserv/kubernetes/1.28.0`, { signal: hangUp.signal })
  t.equal(response.status, 200, 'the headers arrive before the complete file')
  const reader = response.body?.getReader()
  t.ok((await reader?.read())?.value?.length, 'the first bytes arrive')
  const transfer = await gitea.arrived(archive)
  hangUp.abort()
  t.equal(await transfer.over, 'aborted')
})

await t.test('a client that disconnects before the upstream responds stops the request', async t => {
  const { gitea, url } = await listen(t, { finish_bytes: 0 })
  gitea.fault = ({ path }) => archive.test(path) ? 'hang' : undefined
  const hangUp = new AbortController()
  const response = fetch(`${url}/taskserv/kubernetes/1.28.0`, { signal: hangUp.signal })
  const transfer = await gitea.arrived(archive)
  hangUp.abort()
  await t.rejects(response, { name: 'AbortError' })
  t.equal(await transfer.over, 'aborted')
})

await t.test('a file that is truncated or stalls never appears complete', async t => {
  for (const fault of ['truncate', 'stall'] as const) {
    const { gitea, url } = await listen(t)
    gitea.fault = ({ path }) => archive.test(path) ? fault : undefined
    const response = await fetch(`${url}/taskserv/kubernetes/1.28.0`)
    t.equal(response.status, 200, fault)
    await t.rejects(response.arrayBuffer(), fault)
    gitea.fault = undefined
    t.equal(
      (await (await fetch(`${url}/taskserv/kubernetes/1.28.0`)).arrayBuffer()).byteLength,
      Number(response.headers.get('content-length')),
      'the next download is complete'
    )
  }
})

await t.test('a file in many small pieces is complete', async t => {
  const { gitea, url } = await listen(t)
  gitea.fault = ({ path }) => archive.test(path) ? 'drip' : undefined
  const response = await fetch(`${url}/taskserv/kubernetes/1.28.0`)
  const bytes = await response.arrayBuffer()
  hasLine(
    t,
    await (await fetch(new URL('/metrics', url))).text(),
    `download_bytes_total{source="upstream"} ${bytes.byteLength}`
  )
  t.equal(
    `sha-256=:${Buffer.from(await crypto.subtle.digest('SHA-256', bytes)).toString('base64')}:`,
    response.headers.get('repr-digest')
  )
})

await t.test('a file that replaces a known version is found at its new address', async t => {
  const { gitea, url } = await listen(t, { enabled: false })
  const get = async () => await (await fetch(`${url}/provider/aws/1.2.0`)).text()
  const before = await get()
  gitea.detach('aws_prov', '1.2.0', 'aws_prov.tar.gz')
  // The checksum of the earlier file is not valid for the new one.
  gitea.detach('aws_prov', '1.2.0', 'aws_prov.tar.gz.sha256')
  gitea.attach('aws_prov', '1.2.0', { name: 'aws_prov.tar.gz', content: 'another content' })
  const response = await fetch(`${url}/provider/aws/1.2.0`)
  const stated = response.headers.get('etag')
  t.equal(await response.text(), 'another content')
  t.not(before, 'another content')
  t.equal(
    (await fetch(`${url}/provider/aws/1.2.0`, { method: 'HEAD' })).headers.get('etag'),
    stated,
    'the ETag is that of the new file from the first response on'
  )
  gitea.withdraw('aws_prov', '1.2.0')
  t.equal((await fetch(`${url}/provider/aws/1.2.0`)).status, 404)
})

await t.test('an upstream that fails before the first byte is reported in the envelope, without headers of the ' +
  'file', async t => {
  const { gitea, url } = await listen(t)
  gitea.fault = ({ path }) => archive.test(path) ? 'refuse-reset' : undefined
  const response = await fetch(`${url}/taskserv/kubernetes/1.28.0`)
  matchStrictly(t, [response.status, await response.json()], [503, { error: 'service_unavailable' }])
  for (const name of ['etag', 'content-disposition', 'x-cache-ttl', 'repr-digest']) {
    t.equal(response.headers.get(name), null, name)
  }
  t.match(response.headers.get('content-type'), /^application\/json/)
})

await t.test('a file with another length than published never appears complete, even if the response has no ' +
  'length', async t => {
  const bodies: Record<string, { status: number, type?: string }> = {
    shorter: { status: 200 },
    ['much longer than it was '.repeat(20_000)]: { status: 200 },
    '<html>': { status: 401, type: 'text/html' }
  }
  for (const [body, { status, type = 'application/octet-stream' }] of Object.entries(bodies)) {
    const { gitea, url } = await listen(t)
    // The response has no Content-Length: it is chunked.
    gitea.fault = ({ path }) =>
      archive.test(path)
        ? { status: 200, headers: { 'content-type': type, 'transfer-encoding': 'chunked' }, body }
        : undefined
    const response = await fetch(`${url}/taskserv/kubernetes/1.28.0`)
    t.equal(response.status, status, body.slice(0, 10))
    if (status === 200) await t.rejects(response.arrayBuffer(), body.slice(0, 10))
  }
})

await t.test('bytes that are not HTTP get an error in the envelope, and the connection is closed', async t => {
  const { port } = await listen(t)
  for (
    const [sent, status, message] of [['GET / HTTP/1.1\r\nbroken\r\n\r\n', 400, 'Malformed request'], [
      `GET / HTTP/1.1\r\nHost: x\r\nx: ${'x'.repeat(20_000)}\r\n\r\n`,
      431,
      'Request headers are too large'
    ]] as const
  ) {
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.write(sent)
    const [head = '', body = ''] = (await text(socket)).split('\r\n\r\n')
    t.match(head, new RegExp(`^HTTP/1\\.1 ${status} `))
    matchStrictly(t, JSON.parse(body), { error: 'invalid_request', message })
  }
})
