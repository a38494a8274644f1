import { request as httpRequest } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import type { LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'
import { startApp } from '../fakes/app.ts'
import { createGiteaFake, provisioningContent } from '../fakes/gitea.ts'
import { matchStrictly } from '../fakes/match.ts'

const list = '/api/v1/extensions'
const file = `${list}/provider/aws/1.2.0`
const json = [list, `${list}/search?q=aws`, `${list}/provider/aws`, `${list}/provider/aws/versions`]
/** Headers of a representation or its cache state, which an error must not have. */
const ofRepresentation = [
  'etag',
  'last-modified',
  'accept-ranges',
  'content-range',
  'content-disposition',
  'content-encoding',
  'repr-digest',
  'age',
  'cache-status',
  'x-cache-hit',
  'x-cache-ttl',
  'x-total-count',
  'link'
]

/** Starts the registry with a fake Gitea, and loads the catalog. */
async function setUp (t: Test, config: object = {}) {
  const gitea = await createGiteaFake(provisioningContent())
  t.teardown(gitea.close)
  const { app } = await startApp(t, {
    gitea: { url: gitea.url, organization: 'provisioning', timeout_seconds: 1 },
    ...config
  })
  const request = async (method: 'GET' | 'HEAD', url: string, headers: Record<string, string | string[]> = {}) =>
    await app.inject({ method, url, headers })
  await request('GET', list)
  return { app, gitea, request }
}

function isFailed (t: Test, response: LightMyRequestResponse, message: string): void {
  const { statusCode, headers } = response
  matchStrictly(
    t,
    [statusCode, headers['cache-control'], headers['content-type']],
    [412, 'no-store', /^application\/json/],
    message
  )
  t.strictSame(
    ofRepresentation.filter(name => headers[name] !== undefined),
    [],
    `${message}: no headers of a representation`
  )
  if (response.body !== '') {
    matchStrictly(
      t,
      response.json(),
      { error: 'precondition_failed', message: /If-(?:Match|Unmodified-Since)/ },
      message
    )
  }
}

await t.test('a response whose entity tag is not in If-Match is 412, to GET and HEAD, on every route of the ' +
  'catalog', async t => {
  const { request } = await setUp(t)
  for (const method of ['GET', 'HEAD'] as const) {
    for (const url of [...json, file]) {
      const etag = String((await request(method, url)).headers.etag)
      for (
        const condition of ['"other"', `W/${etag}`, etag.slice(1, -1), `${etag} "other"`, '"unclosed', '', `${etag}, *`]
      ) {
        isFailed(t, await request(method, url, { 'if-match': condition }), `${method} ${url} If-Match: ${condition}`)
      }
      for (const condition of [etag, '*', `"other", ${etag}`, `W/"other",${etag}`, `"a, b", ,${etag},`]) {
        t.equal(
          (await request(method, url, { 'if-match': condition })).statusCode,
          200,
          `${method} ${url} If-Match: ${condition}`
        )
      }
      isFailed(
        t,
        await request(method, url, { 'if-match': '"other"', 'if-none-match': etag }),
        `${method} ${url}: If-Match comes first`
      )
      t.equal(
        (await request(method, url, { 'if-match': etag, 'if-none-match': etag })).statusCode,
        304,
        `${method} ${url}: then If-None-Match`
      )
    }
  }
})

await t.test('a file that was published after If-Unmodified-Since is 412; a date equal to Last-Modified ' +
  'holds', async t => {
  const { request } = await setUp(t)
  for (const method of ['GET', 'HEAD'] as const) {
    const { headers } = await request(method, file)
    const modified = new Date(String(headers['last-modified']))
    t.ok(modified.getTime() > 0)
    const at = (seconds: number) => new Date(modified.getTime() + seconds * 1000).toUTCString()
    for (const seconds of [0, 1, 1e9]) {
      t.equal(
        (await request(method, file, { 'if-unmodified-since': at(seconds) })).statusCode,
        200,
        `${method} ${seconds} s later`
      )
    }
    for (const seconds of [-1, -1e9]) {
      isFailed(t, await request(method, file, { 'if-unmodified-since': at(seconds) }), `${method} ${seconds} s earlier`)
    }
    for (const malformed of ['yesterday', '2000-01-01T00:00:00Z', '0', `${at(-1)}, ${at(-1)}`, '']) {
      t.equal(
        (await request(method, file, { 'if-unmodified-since': malformed })).statusCode,
        200,
        `${method} malformed, therefore ignored: ${malformed}`
      )
    }
    t.equal(
      (await request(method, file, { 'if-unmodified-since': at(-1), 'if-match': String(headers.etag) })).statusCode,
      200,
      'ignored beside If-Match'
    )
    t.equal(
      (await request(method, file, { 'if-modified-since': at(0) })).statusCode,
      200,
      'no 304 by date, since a replaced file may have the date of the earlier file'
    )
    for (const url of json) {
      t.equal(
        (await request(method, url, { 'if-unmodified-since': at(-1e9) })).statusCode,
        200,
        `${method} ${url} has no modification date`
      )
    }
  }
})

await t.test('a file of Swagger UI has the same errors: 412 for a failed condition, 416 for a range beyond its ' +
  'end', async t => {
  const { request } = await setUp(t)
  const url = '/docs/static/swagger-ui.css'
  for (const headers of [{ 'if-match': '"other"' }, { 'if-unmodified-since': 'Mon, 01 Jan 2001 00:00:00 GMT' }]) {
    const { statusCode, body } = await request('GET', url, headers)
    t.strictSame([statusCode, JSON.parse(body)], [412, {
      error: 'precondition_failed',
      message: 'Precondition failed'
    }])
  }
  const { statusCode, body } = await request('GET', url, { range: 'bytes=99999999-' })
  t.strictSame([statusCode, JSON.parse(body)], [416, {
    error: 'range_not_satisfiable',
    message: 'The file has no such range'
  }])
})

await t.test('a part of a file is sent only if If-Match and If-Unmodified-Since hold', async t => {
  const { request } = await setUp(t)
  const { headers: { etag, 'last-modified': modified } } = await request('GET', file)
  const range = 'bytes=2-'
  t.equal((await request('GET', file, { range, 'if-match': String(etag) })).statusCode, 206)
  t.equal((await request('GET', file, { range, 'if-unmodified-since': String(modified) })).statusCode, 206)
  isFailed(t, await request('GET', file, { range, 'if-match': '"other"' }), 'a different file')
  isFailed(
    t,
    await request('GET', file, { range, 'if-match': '"other"', 'if-range': String(etag) }),
    'If-Range does not override If-Match'
  )
  isFailed(
    t,
    await request('GET', file, { range: 'bytes=99999999-', 'if-match': '"other"' }),
    'the condition is checked before the range'
  )
  t.equal((await request('GET', file, { range: 'bytes=99999999-', 'if-match': String(etag) })).statusCode, 416)
})

await t.test('a download that is resumed with the If-Match of a replaced file gets 412, and never a part of ' +
  'the new file', async t => {
  for (const store of [{}, { enabled: false }]) {
    const { gitea, request } = await setUp(t, { store })
    const { headers: { etag } } = await request('HEAD', file)
    gitea.detach('aws_prov', '1.2.0', 'aws_prov.tar.gz')
    gitea.detach('aws_prov', '1.2.0', 'aws_prov.tar.gz.sha256')
    gitea.attach('aws_prov', '1.2.0', { name: 'aws_prov.tar.gz', content: 'another content' })
    // The catalog still has the earlier file: the replacement is found when the file is opened.
    isFailed(t, await request('GET', file, { range: 'bytes=8-', 'if-match': String(etag) }), 'the earlier entity tag')
    const { headers: { etag: current } } = await request('HEAD', file)
    t.not(current, etag)
    const rest = await request('GET', file, { range: 'bytes=8-', 'if-match': String(current) })
    matchStrictly(t, [rest.statusCode, rest.body], [206, 'content'])
    t.equal((await request('GET', file, { 'if-none-match': String(current) })).statusCode, 304)
  }
})

await t.test('conditions do not change a response with another status than 2xx', async t => {
  const { gitea, request } = await setUp(t)
  const failing = { 'if-match': '"other"', 'if-unmodified-since': 'Sat, 01 Jan 2000 00:00:00 GMT' }
  for (const method of ['GET', 'HEAD'] as const) {
    for (
      const [url, status] of [
        [`${list}/provider/absent`, 404],
        [`${list}/provider/aws/9.9.9`, 404],
        [`${list}/provider/aws/latest`, 302],
        [`${list}/bogus/aws`, 400],
        [`${list}?limit=0`, 400],
        ['/nowhere', 404]
      ] as const
    ) t.equal((await request(method, url, failing)).statusCode, status, `${method} ${url}`)
    for (const url of ['/health', '/livez', '/metrics']) {
      t.equal((await request(method, url, failing)).statusCode, 200, `${method} ${url} has no validators`)
    }
  }
  const { headers: { etag } } = await request('HEAD', file)
  gitea.fault = () => 'refuse-reset'
  t.equal((await request('GET', file, { 'if-match': String(etag) })).statusCode, 503, 'the file cannot be opened')
})

await t.test('a compressed body matches If-Match with the entity tag of any of its codings', async t => {
  const { request } = await setUp(t)
  const plain = String((await request('GET', list)).headers.etag)
  const tags = [plain]
  for (const coding of ['br', 'gzip']) {
    let response = await request('GET', list, { 'accept-encoding': coding })
    for (let turns = 0; turns < 10_000 && response.headers['content-encoding'] === undefined; turns++) {
      await turn()
      response = await request('GET', list, { 'accept-encoding': coding })
    }
    t.equal(response.headers['content-encoding'], coding)
    tags.push(String(response.headers.etag))
  }
  t.equal(new Set(tags).size, 3)
  for (const etag of tags) {
    for (const coding of ['identity', 'br', 'gzip']) {
      const response = await request('GET', list, { 'if-match': etag, 'accept-encoding': coding })
      matchStrictly(t, [response.statusCode, response.headers['content-encoding']], [
        200,
        coding === 'identity' ? undefined : coding
      ], `${etag} ${coding}`)
    }
  }
  const small = `${list}?limit=1`
  const etag = String((await request('GET', small)).headers.etag)
  isFailed(
    t,
    await request('GET', small, { 'if-match': `${etag.slice(0, -1)}-br"` }),
    'a body that is never compressed has one entity tag'
  )
})

await t.test('repeated header lines form one list of entity tags, and a repeated date is ignored', async t => {
  const { app } = await setUp(t)
  const origin = await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => { app.server.closeAllConnections() })
  const { headers } = await fetch(`${origin}${file}`)
  const send = async (lines: Array<[string, string]>) => {
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>()
    httpRequest(`${origin}${file}`, { headers: ['Host', 'registry.test', ...lines.flat()] as never }, response => {
      response.resume()
      resolve(response.statusCode)
    }).on('error', reject).end()
    return await promise
  }
  const etag = headers.get('etag') ?? ''
  const old = 'Sat, 01 Jan 2000 00:00:00 GMT'
  t.equal(await send([['If-Match', '"a"'], ['If-Match', etag]]), 200)
  t.equal(await send([['If-Match', '"a"'], ['if-match', '"b"']]), 412)
  t.equal(await send([['If-Match', '*'], ['If-Match', '"b"']]), 412, 'an asterisk in a list is malformed')
  t.equal(await send([['If-None-Match', '"a"'], ['If-None-Match', etag]]), 304)
  t.equal(await send([['If-Unmodified-Since', old]]), 412)
  t.equal(await send([['If-Unmodified-Since', old], ['If-Unmodified-Since', old]]), 200)
})
