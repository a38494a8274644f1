import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { startApp } from '../fakes/app.ts'
import { createGiteaFake, provisioningContent, type GiteaFake } from '../fakes/gitea.ts'
import { matchStrictly } from '../fakes/match.ts'

/** The registry on a real port, before a faked Gitea. */
async function listen (t: Test, store: object = {}): Promise<{ gitea: GiteaFake, url: string, port: number }> {
  const gitea = await createGiteaFake(provisioningContent())
  const { app } = await startApp(t, {
    gitea: { url: gitea.url, organization: 'provisioning', timeout_seconds: 1 },
    store
  })
  t.teardown(gitea.close)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  // A client that was cut off connects anew ahead of its next request; such a connection is not idle to the server.
  t.teardown(() => { app.server.closeAllConnections() })
  // What is loaded at the start is loaded, so that the only transfers are those of the test.
  await (await fetch(`${url}/api/v1/extensions`)).arrayBuffer()
  await (await fetch(`${url}/api/v1/extensions/taskserv/kubernetes/versions`)).arrayBuffer()
  gitea.requests.length = 0
  return { gitea, url: `${url}/api/v1/extensions`, port: Number(new URL(url).port) }
}
const archive = /^\/attachments\//

await t.test('a client that hangs up stops the transfer from the upstream, when the file is larger than what is ' +
  'fetched for the next one', async t => {
  const { gitea, url } = await listen(t, { finish_bytes: 262_243 })
  gitea.fault = ({ path }) => archive.test(path) ? 'stall' : undefined
  const hangUp = new AbortController()
  const answer = await fetch(`${url}/taskserv/kubernetes/1.28.0`, { signal: hangUp.signal })
  t.equal(answer.status, 200, 'the headers are there before the whole file is')
  const reader = answer.body?.getReader()
  t.ok((await reader?.read())?.value?.length, 'and so is its beginning')
  const transfer = await gitea.arrived(archive)
  hangUp.abort()
  t.equal(await transfer.over, 'aborted')
})

await t.test('a client that hangs up before the upstream answers stops the request, too', async t => {
  const { gitea, url } = await listen(t, { finish_bytes: 0 })
  gitea.fault = ({ path }) => archive.test(path) ? 'hang' : undefined
  const hangUp = new AbortController()
  const answer = fetch(`${url}/taskserv/kubernetes/1.28.0`, { signal: hangUp.signal })
  const transfer = await gitea.arrived(archive)
  hangUp.abort()
  await t.rejects(answer, { name: 'AbortError' })
  t.equal(await transfer.over, 'aborted')
})

await t.test('a file that breaks off or stops on its way never looks complete', async t => {
  for (const fault of ['truncate', 'stall'] as const) {
    const { gitea, url } = await listen(t)
    gitea.fault = ({ path }) => archive.test(path) ? fault : undefined
    const answer = await fetch(`${url}/taskserv/kubernetes/1.28.0`)
    t.equal(answer.status, 200, fault)
    await t.rejects(answer.arrayBuffer(), fault)
    gitea.fault = undefined
    t.equal(
      (await (await fetch(`${url}/taskserv/kubernetes/1.28.0`)).arrayBuffer()).byteLength,
      Number(answer.headers.get('content-length')),
      'and the next one is whole'
    )
  }
})

await t.test('a file in many small pieces arrives whole', async t => {
  const { gitea, url } = await listen(t)
  gitea.fault = ({ path }) => archive.test(path) ? 'drip' : undefined
  const answer = await fetch(`${url}/taskserv/kubernetes/1.28.0`)
  const bytes = await answer.arrayBuffer()
  t.match(
    await (await fetch(new URL('/metrics', url))).text(),
    `download_bytes_total{source="upstream"} ${bytes.byteLength}`
  )
  t.equal(
    `sha-256=:${Buffer.from(await crypto.subtle.digest('SHA-256', bytes)).toString('base64')}:`,
    answer.headers.get('repr-digest')
  )
})

await t.test('what was replaced under a known version is found under its new address', async t => {
  const { gitea, url } = await listen(t, { enabled: false })
  const get = async () => await (await fetch(`${url}/provider/aws/1.2.0`)).text()
  const before = await get()
  gitea.detach('aws_prov', '1.2.0', 'aws_prov.tar.gz')
  // The old checksum is not the new file's.
  gitea.detach('aws_prov', '1.2.0', 'aws_prov.tar.gz.sha256')
  gitea.attach('aws_prov', '1.2.0', { name: 'aws_prov.tar.gz', content: 'another content' })
  const answer = await fetch(`${url}/provider/aws/1.2.0`)
  const stated = answer.headers.get('etag')
  t.equal(await answer.text(), 'another content')
  t.not(before, 'another content')
  t.equal(
    (await fetch(`${url}/provider/aws/1.2.0`, { method: 'HEAD' })).headers.get('etag'),
    stated,
    'its validator is its own from the first answer on'
  )
  gitea.withdraw('aws_prov', '1.2.0')
  t.equal((await fetch(`${url}/provider/aws/1.2.0`)).status, 404)
})

await t.test('an upstream that breaks before the first byte is told in the envelope, without a word of the ' +
  'file', async t => {
  const { gitea, url } = await listen(t)
  gitea.fault = ({ path }) => archive.test(path) ? 'refuse-reset' : undefined
  const answer = await fetch(`${url}/taskserv/kubernetes/1.28.0`)
  matchStrictly(t, [answer.status, await answer.json()], [503, { error: 'service_unavailable' }])
  for (const name of ['etag', 'content-disposition', 'x-cache-ttl', 'repr-digest']) {
    t.equal(answer.headers.get(name), null, name)
  }
  t.match(answer.headers.get('content-type'), /^application\/json/)
})

await t.test('a file of another length than was published never looks complete, whatever the upstream says of its ' +
  'length', async t => {
  const bodies: Record<string, { status: number, type?: string }> = {
    shorter: { status: 200 },
    ['much longer than it was '.repeat(20_000)]: { status: 200 },
    '<html>': { status: 401, type: 'text/html' }
  }
  for (const [body, { status, type = 'application/octet-stream' }] of Object.entries(bodies)) {
    const { gitea, url } = await listen(t)
    // Without a length of its own: chunked.
    gitea.fault = ({ path }) =>
      archive.test(path)
        ? { status: 200, headers: { 'content-type': type, 'transfer-encoding': 'chunked' }, body }
        : undefined
    const answer = await fetch(`${url}/taskserv/kubernetes/1.28.0`)
    t.equal(answer.status, status, body.slice(0, 10))
    if (status === 200) await t.rejects(answer.arrayBuffer(), body.slice(0, 10))
  }
})

await t.test('what is no HTTP gets the envelope, and the connection is closed', async t => {
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
    t.match(JSON.parse(body), { error: 'invalid_request', message })
  }
})
