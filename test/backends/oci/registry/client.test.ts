import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { ContentError, maxManifestBytes } from '../../../../backends/oci/transport.ts'
import { isRegistryError } from '../../../../lib/errors.ts'
import { indexType, manifestType, writeLayout } from '../../../fakes/layout.ts'
import { createLoopback, type LoopbackResponse } from '../../../fakes/loopback.ts'
import { matchStrictly } from '../../../fakes/match.ts'
import { contentOf, createRegistryFake, type RegistryFakeOptions } from '../../../fakes/registry.ts'
import { createRegistryDriver, createRegistryTransport } from '../../../fakes/registry-driver.ts'

const repository = 'provisioning/provider/aws'
const signal = () => AbortSignal.timeout(5000)
const sha256 = (bytes: string | Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

async function setUp (t: Test, options: RegistryFakeOptions = {}, config: object = {}) {
  const root = join(t.testdir({}), 'layouts')
  const [written] = await writeLayout(root, [
    { repository, tag: '1.0.0', layers: [{ content: 'the file', title: 'aws.tar.gz' }] },
    { repository: 'provisioning/aws_prov', tag: '0.1.0' },
    { repository: 'provisioning/taskserv/k3s', tag: '1.0.0' },
    { repository: 'elsewhere/provider/other', tag: '1.0.0' }
  ])
  const fake = await createRegistryFake(await contentOf(root), options)
  t.teardown(fake.close)
  const observed: string[] = []
  const given = { registry: fake.url, namespace: 'provisioning', ...config }
  const more = { onRefused: () => { observed.push('refused') } }
  return {
    fake,
    observed,
    transport: createRegistryTransport(t, given, more),
    driver: createRegistryDriver(t, given, more),
    manifest: written?.manifest ?? '',
    file: { digest: written?.file ?? '', size: 8 }
  }
}
const outcome = async (operation: Promise<unknown>) => await operation.catch((error: unknown) => {
  if (!isRegistryError(error) && !(error instanceof ContentError)) throw error
  return error
})
/** Returns the text of a stream. */
const read = async (stream: Readable | undefined): Promise<string> =>
  stream === undefined ? '' : String(await buffer(stream))
const below = ['provisioning/aws_prov', repository, 'provisioning/taskserv/k3s']

await t.test('repositories of a registry', async t => {
  await t.test('the catalog below the namespace and the configured repositories are listed', async t => {
    const { transport, observed } = await setUp(t, {}, { repositories: ['provider/secret'] })
    t.strictSame(await transport.repositories('provisioning'), {
      names: [below[0], below[1], 'provisioning/provider/secret', below[2]],
      truncated: false
    })
    t.strictSame(observed, [])
  })

  await t.test('the repositories of a Harbor project are listed in pages of a hundred', async t => {
    const { fake, transport } = await setUp(t, { flavour: 'harbor' }, { discovery: 'harbor' })
    const k3s = fake.content.get('provisioning/taskserv/k3s')
    if (k3s !== undefined) for (let at = 0; at < 230; at++) fake.content.set(`provisioning/taskserv/t${at}`, k3s)
    const { names, truncated } = await transport.repositories('provisioning')
    t.strictSame([names.length, truncated], [233, false])
    t.equal(fake.count(/^\/api\/v2\.0\/projects\/provisioning\/repositories\?page=\d&page_size=100$/), 3)
    // Some proxies drop Link; the total also shows the end.
    fake.fault = async ({ path, headers }) => {
      if (!path.startsWith('/api/') || headers['x-again'] !== undefined) return undefined
      const response = await fetch(fake.url + path, { headers: { 'x-again': '1' } })
      return {
        status: 200,
        headers: { 'content-type': 'application/json', 'x-total-count': response.headers.get('x-total-count') ?? '' },
        body: await response.text()
      }
    }
    t.equal((await transport.repositories('provisioning')).names.length, 233)
  })

  await t.test('with discovery "list" only the configured repositories are listed, without a request', async t => {
    const { fake, transport } = await setUp(t, {}, { discovery: 'list', repositories: ['provider/aws', 'none'] })
    t.strictSame(await transport.repositories('provisioning'), { names: [repository, 'provisioning/none'] })
    t.equal(fake.requests.length, 0)
  })

  await t.test('repositories are found by name when the registry refuses or lacks the list, and the refusal is ' +
    'observed once', async t => {
    const refusals: Array<[string, LoopbackResponse | undefined]> = [
      ['refused', undefined],
      ['absent', { status: 404, headers: { 'content-type': 'text/plain' }, body: '404 page not found' }],
      ['not allowed', { status: 405, body: '' }],
      ['no right', { status: 401, body: '' }]
    ]
    for (const [what, reply] of refusals) {
      const { fake, transport, driver, observed: seen } = await setUp(t, { catalogRefused: true }, {
        repositories: ['provider/aws']
      })
      fake.fault = ({ path }) => path.startsWith('/v2/_catalog') ? reply : undefined
      matchStrictly(t, await transport.repositories('provisioning'), {
        names: [repository],
        truncated: true,
        expected: true,
        truncatedBy: { details: 'Registry does not list its repositories' }
      }, what)
      await transport.repositories('provisioning')
      t.strictSame(seen, ['refused'])
      matchStrictly(t, await driver.list(), { found: [{ metadata: { name: 'aws' } }], failed: [], truncated: true })
      matchStrictly(
        t,
        await driver.load('taskserv', 'k3s'),
        { releases: [{ version: '1.0.0' }] },
        'not listed, and found by name'
      )
      await driver.ping(signal())
    }
    const harbor = await setUp(t, { flavour: 'harbor' }, { discovery: 'harbor', namespace: 'nowhere' })
    matchStrictly(t, await harbor.transport.repositories('nowhere'), { names: [], truncated: true, expected: true })
    t.strictSame(harbor.observed, ['refused'])
  })

  await t.test('a list that is no longer available is a failure, unlike a list that was never available', async t => {
    const { fake, transport } = await setUp(t)
    await transport.repositories('provisioning')
    fake.fault = ({ path }) =>
      path.startsWith('/v2/_catalog')
        ? { status: 404, headers: { 'content-type': 'text/plain' }, body: '404 page not found' }
        : undefined
    const { expected, truncatedBy } = await transport.repositories('provisioning')
    t.strictSame([expected, truncatedBy?.details], [undefined, 'Registry no longer lists its repositories'])
  })

  await t.test('an unavailable registry is a failure', async t => {
    const { fake, transport, observed } = await setUp(t)
    fake.fault = () => ({ status: 404, headers: { 'content-type': 'text/html' }, body: '' })
    matchStrictly(t, await outcome(transport.repositories('provisioning')), {
      code: 'service_unavailable',
      details: 'No registry at this address'
    })
    fake.fault = () => ({ status: 401, headers: { 'www-authenticate': 'Basic realm="x"' }, body: '' })
    matchStrictly(t, await outcome(transport.repositories('provisioning')), { code: 'auth_error' })
    fake.fault = ({ path }) => path === '/v2/' ? undefined : { status: 503, body: '' }
    matchStrictly(t, await outcome(transport.repositories('provisioning')), {
      code: 'service_unavailable',
      details: 'Upstream responded with status 503'
    })
    t.strictSame(observed, [])
  })
})

await t.test('a 404 that is not from the registry does not prove an absence', async t => {
  const responses: LoopbackResponse[] = [
    { status: 404, body: '' },
    { status: 404, headers: { 'content-type': 'application/json' }, body: '{"message":"no Route matched"}' },
    { status: 404, headers: { 'content-type': 'text/plain' }, body: '404 page not found' }
  ]
  for (const response of responses) {
    const { fake, driver } = await setUp(t, {}, {
      discovery: 'list',
      repositories: ['provider/aws', 'provider/nowhere']
    })
    fake.fault = () => response
    for (
      const operation of [async () => await driver.list(), async () =>
        await driver.load('provider', 'aws'), async () =>
        await driver.load('provider', 'nowhere')]
    ) matchStrictly(t, await outcome(operation()), { code: 'service_unavailable' })
  }
})

await t.test('a page without names of the namespace is not the last page', async t => {
  const { fake, transport } = await setUp(t)
  fake.fault = ({ path }) =>
    path.startsWith('/v2/_catalog')
      ? path.includes('last=')
        ? {
            status: 200,
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ repositories: [repository] })
          }
        : {
            status: 200,
            headers: { 'content-type': 'application/json', link: '</v2/_catalog?last=b&n=2>; rel="next"' },
            body: JSON.stringify({ repositories: ['Legacy/Foo', 'foreign/bar'] })
          }
      : undefined
  t.strictSame(await transport.repositories('provisioning'), { names: [repository], truncated: false })
})

await t.test('an endless catalog is truncated, and observed as truncated', async t => {
  const { fake, transport } = await setUp(t)
  let page = 0
  fake.fault = ({ path }) =>
    path.startsWith('/v2/_catalog')
      ? {
          status: 200,
          headers: { 'content-type': 'application/json', link: `</v2/_catalog?last=${page}>; rel="next"` },
          body: JSON.stringify({
            repositories: Array.from({ length: 20_000 }, (_, at) => `provisioning/provider/x${page++}y${at}`)
          })
        }
      : undefined
  const { names, truncated } = await transport.repositories('provisioning')
  t.ok(truncated)
  t.ok(names.length < 150_000)
})

await t.test('a file that is refused before it is read does not keep its connection', async t => {
  const { fake, driver, file } = await setUp(t)
  fake.fault = ({ path }) => path.includes('/blobs/') ? { status: 200, body: Buffer.alloc(8 * 1024 * 1024) } : undefined
  matchStrictly(
    t,
    await outcome(
      driver.open({ name: 'x', validator: file.digest, locator: `${repository}@${file.digest}`, size: 8 }, {
        signal: signal()
      })
    ),
    { code: 'service_unavailable' }
  )
  t.equal(await (await fake.arrived(/blobs/)).over, 'aborted')
})

await t.test('a denied repository is refused alone, and does not hide a repository with the next name of its ' +
  'extension', async t => {
  const { fake, driver } = await setUp(t)
  fake.fault = ({ path }) =>
    path.includes('/provider/aws/')
      ? { status: 403, headers: { 'content-type': 'application/json' }, body: '{"errors":[{"code":"DENIED"}]}' }
      : undefined
  matchStrictly(t, await driver.load('provider', 'aws'), { releases: [{ version: '0.1.0' }] })
  fake.fault = ({ path }) => path.includes('/taskserv/') ? { status: 403, body: '' } : undefined
  matchStrictly(t, await outcome(driver.load('taskserv', 'k3s')), { code: 'auth_error' })
  matchStrictly(t, await driver.list(), {
    found: [{ metadata: { name: 'aws' } }],
    failed: [],
    refused: [{ type: 'taskserv', name: 'k3s', error: { code: 'auth_error' } }]
  })
})

await t.test('a tag of a registry', async t => {
  await t.test('a tag is resolved without its manifest', async t => {
    const { fake, transport, manifest } = await setUp(t)
    t.strictSame(await transport.resolve(repository, '1.0.0'), { digest: manifest, mediaType: manifestType })
    const { method, headers } = fake.requests.at(-1) ?? {}
    t.equal(method, 'HEAD')
    t.equal(
      headers?.accept,
      [
        manifestType,
        'application/vnd.docker.distribution.manifest.v2+json',
        indexType,
        'application/vnd.docker.distribution.manifest.list.v2+json'
      ].join(', ')
    )
    t.equal(await transport.resolve(repository, '9.9.9'), undefined)
    t.equal(await transport.resolve(repository, '../x'), undefined)
  })

  await t.test('a tag is resolved by its manifest when HEAD is not allowed or has no valid digest', async t => {
    for (
      const response of [{ status: 405, body: '' }, { status: 200, body: '' }, {
        status: 200,
        headers: { 'docker-content-digest': '../../x' },
        body: ''
      }]
    ) {
      const { fake, transport, manifest } = await setUp(t)
      fake.fault = ({ method }) => method === 'HEAD' ? response : undefined
      const target = await transport.resolve(repository, '1.0.0')
      matchStrictly(t, target, { digest: manifest, mediaType: manifestType, manifest: { digest: manifest } })
      t.equal(sha256(target?.manifest?.bytes ?? ''), manifest)
      t.equal(await transport.resolve(repository, '9.9.9'), undefined)
    }
  })

  await t.test('a tag with a manifest that does not match its digest is malformed', async t => {
    const { fake, transport } = await setUp(t)
    fake.fault = ({ method }) =>
      method === 'HEAD'
        ? { status: 405, body: '' }
        : { status: 200, headers: { 'docker-content-digest': sha256('x') }, body: 'y' }
    await t.rejects(transport.resolve(repository, '1.0.0'), { name: 'ContentError' })
  })
})

await t.test('a manifest of a registry', async t => {
  await t.test('a manifest is verified', async t => {
    const { fake, transport, manifest } = await setUp(t)
    t.equal(sha256((await transport.manifest(repository, manifest))?.bytes ?? ''), manifest)
    t.equal(await transport.manifest(repository, sha256('none')), undefined)
    t.equal(await transport.manifest(repository, 'md5'), undefined)
    fake.fault = () => ({ status: 200, headers: { 'content-type': manifestType }, body: '{}' })
    await t.rejects(transport.manifest(repository, manifest), { name: 'ContentError' })
  })

  await t.test('a manifest above the size limit fails alone', async t => {
    const { fake, transport, manifest } = await setUp(t)
    fake.fault = () => 'endless'
    await t.rejects(transport.manifest(repository, manifest), {
      name: 'ContentError',
      message: 'The manifest is longer than allowed'
    })
    fake.fault = () => ({
      status: 200,
      headers: { 'content-type': manifestType },
      body: Buffer.alloc(maxManifestBytes + 1, ' ')
    })
    await t.rejects(transport.manifest(repository, manifest), {
      name: 'ContentError',
      message: 'The manifest is longer than allowed'
    })
  })

  await t.test('a manifest is read after a redirect on the same host', async t => {
    const { fake, transport, manifest } = await setUp(t)
    fake.fault = ({ path }) =>
      path.includes('?moved')
        ? undefined
        : path.includes('/manifests/')
          ? { status: 307, headers: { location: `${path}?moved` }, body: '' }
          : undefined
    t.equal((await transport.manifest(repository, manifest))?.digest, manifest)
  })
})

await t.test('a file of a registry', async t => {
  await t.test('a file is sent without encoding, and its size is verified before the first byte is ' +
    'returned', async t => {
    const { fake, transport, file } = await setUp(t)
    const stream = (await transport.blob(repository, file, { signal: signal() }))?.stream
    t.equal(await read(stream), 'the file')
    t.equal(fake.requests.at(-1)?.headers['accept-encoding'], 'identity')
    t.equal(await transport.blob(repository, { ...file, digest: sha256('none') }, { signal: signal() }), undefined)
    await t.rejects(transport.blob(repository, { ...file, size: 7 }, { signal: signal() }), { name: 'ContentError' })
    fake.fault = () => ({ status: 200, headers: { 'content-encoding': 'gzip' }, body: 'the file' })
    await t.rejects(transport.blob(repository, file, { signal: signal() }), { name: 'ContentError' })
  })

  await t.test('a file is read from another host only when that host is configured', async t => {
    const storage = await createLoopback(() => ({ status: 200, body: 'the file' }))
    t.teardown(storage.close)
    const refused = await setUp(t, { storage: storage.url })
    matchStrictly(t, await outcome(refused.transport.blob(repository, refused.file, { signal: signal() })), {
      code: 'service_unavailable',
      details: 'Redirect to a host that is not configured'
    })
    t.equal(storage.requests.length, 0)
    const { transport, file } = await setUp(t, { storage: storage.url }, {
      redirect_hosts: [`127.0.0.1:${storage.port}`],
      token: 'canary'
    })
    const stream = (await transport.blob(repository, file, { signal: signal() }))?.stream
    t.equal(await read(stream), 'the file')
    t.strictSame(storage.requests.map(({ headers }) => headers.authorization), [undefined])
  })

  await t.test('a truncated file ends with an error', async t => {
    const { fake, driver } = await setUp(t)
    const file = (await driver.load('provider', 'aws'))?.releases[0]?.file
    if (file === undefined) return t.fail('no file')
    fake.fault = ({ path }) => path.includes('/blobs/') ? 'truncate' : undefined
    const cut = await driver.open(file, { signal: signal() })
    await t.rejects(async () => { await read(cut?.stream) }, { code: 'service_unavailable' })
  })

  await t.test('a truncated config fails only its repository, and is not a bug', async t => {
    const root = join(t.testdir({}), 'layouts')
    await writeLayout(root, [{ repository, tag: '1.0.0', config: { created: '2026-01-01T00:00:00Z' } }, {
      repository: 'provisioning/taskserv/k3s',
      tag: '1.0.0'
    }])
    const fake = await createRegistryFake(await contentOf(root))
    t.teardown(fake.close)
    const driver = createRegistryDriver(t, { registry: fake.url, namespace: 'provisioning' })
    fake.fault = ({ path }) => path.includes('/provider/aws/blobs/') ? 'truncate' : undefined
    matchStrictly(t, await driver.list(), {
      found: [{ metadata: { name: 'k3s' } }],
      failed: [{ name: 'aws', error: { code: 'service_unavailable', details: 'Response is incomplete' } }]
    })
  })

  await t.test('a file has an address on the public URL', async t => {
    const { transport, file } = await setUp(t, {}, { public_url: 'https://registry.example.com' })
    t.equal(transport.url?.(repository, file), `https://registry.example.com/v2/${repository}/blobs/${file.digest}`)
  })
})

await t.test('a manifest is read by its form when the server sends a generic media type', async t => {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(root, [
    { repository, tag: '1.0.0', untyped: true },
    { repository, tag: '1.1.0', untyped: true, index: {} },
    { repository, tag: '1.2.0' },
    { repository, tag: '1.3.0', index: {} }
  ])
  const content = await contentOf(root)
  for (
    const type of [
      'application/json',
      'application/json; charset=utf-8',
      'text/plain',
      'Text/Plain; charset=utf-8',
      'application/octet-stream',
      undefined
    ]
  ) {
    const fake = await createRegistryFake(content, type === undefined ? {} : { manifestType: type })
    t.teardown(fake.close)
    const driver = createRegistryDriver(t, { registry: fake.url, namespace: 'provisioning' })
    const loaded = await driver.load('provider', 'aws')
    t.strictSame(
      loaded?.releases.map(({ version, file }) => [version, file?.name]),
      ['1.3.0', '1.2.0', '1.1.0', '1.0.0'].map(version => [version, 'aws.tar.gz']),
      type ?? 'the original type'
    )
  }
})
