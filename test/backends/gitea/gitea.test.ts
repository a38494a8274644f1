import t, { type Test } from 'tap'
import type { Extension, ExtensionVersion } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake, provisioningContent, type GiteaContent, type GiteaOptions } from '../../fakes/gitea.ts'
import { sha256 } from '../../fakes/gitea/provisioning.ts'
import { hasLine, matchStrictly } from '../../fakes/match.ts'

const reader: GiteaOptions = {
  tokens: { 'reader-token': { scopes: ['read:organization', 'read:repository', 'read:user'] } }
}

async function setUp (
  t: Test,
  { content = provisioningContent(), options = {}, config = {} }: {
    content?: GiteaContent,
    options?: GiteaOptions,
    config?: object
  } = {}
) {
  const gitea = await createGiteaFake(content, options)
  t.teardown(gitea.close)
  const registry = await startApp(t, {
    gitea: { url: gitea.url, organization: content.owner.login, public_url: 'https://gitea.example.com', ...config }
  })
  return { gitea, ...registry }
}
const releasesOf = /^\/api\/v1\/repos\/[^/]+\/[^/]+\/releases/
const single = (
  name: string,
  releases: GiteaContent['repositories'][number]['releases'] = [],
  more: object = {}
): GiteaContent => ({
  owner: { login: 'org' },
  repositories: [{ name, ...(releases !== undefined && { releases }), ...more }]
})
const file = (name: string, content = name) => ({ name, content })

await t.test('the repositories of an organization become a catalog', async t => {
  const { get } = await setUp(t)
  const extensions = (await get('/api/v1/extensions')).json<Extension[]>()
  t.strictSame(extensions.map(({ type, name, version }) => `${type}/${name} ${version}`), [
    'provider/aws 1.2.0', 'provider/onlyrc 0.1.0-alpha.10', 'provider/slash 1.0.1', 'provider/upcloud 2.1.3',
    'taskserv/k3s 1.27.5+k3s1', 'taskserv/kubernetes 1.28.0', 'taskserv/many 0.56.0', 'taskserv/renamed 1.0.0',
    'cluster/edge 1.1.0', 'cluster/web 0.9.0'
  ], 'archived repositories are included; mirrors, empty repositories, drafts and tags that are not semver are not')
  const [aws] = extensions
  t.strictSame(aws, {
    name: 'aws',
    type: 'provider',
    version: '1.2.0',
    description: 'AWS provider for provisioning infrastructure',
    author: 'Provisioning team',
    repository: 'https://gitea.example.com/provisioning/aws_prov',
    source: 'gitea',
    published_at: '2026-11-23T05:24:36Z',
    download_url: 'https://gitea.example.com/provisioning/aws_prov/releases/download/1.2.0/aws_prov.tar.gz',
    checksum: aws?.checksum,
    size: aws?.size,
    tags: ['aws', 'cloud', 'infrastructure']
  })
  const web = extensions.find(({ name }) => name === 'web')
  t.strictSame(Object.keys(web ?? {}).sort(), [
    'author',
    'description',
    'name',
    'published_at',
    'repository',
    'source',
    'type',
    'version'
  ], 'without a file the fields download_url, checksum and size are absent')
})

await t.test('a crawl sends one request for each page of the listing and of releases, and for the checksum file of ' +
  'each current version', async t => {
  const { gitea, get } = await setUp(t)
  await get('/api/v1/extensions')
  t.equal(gitea.count(/\/orgs\/provisioning\/repos\?.*limit=50/), 2, '65 repositories')
  t.equal(gitea.count(releasesOf), 11, 'ten extensions, one of them with two pages')
  t.equal(gitea.count(/^\/attachments\//), 4, 'aws, upcloud, k3s and kubernetes')
  const before = gitea.requests.length
  await get('/api/v1/extensions?type=cluster')
  await get('/api/v1/extensions/search?q=aws')
  await get('/api/v1/extensions/provider/aws')
  t.equal(gitea.requests.length, before, 'cached data is returned without further requests')
})

await t.test('versions are listed highest first, with the checksums of the publisher', async t => {
  const { get } = await setUp(t)
  const versions = async (path: string) => (await get(`/api/v1/extensions/${path}/versions`)).json<ExtensionVersion[]>()
  t.strictSame((await versions('provider/aws')).map(({ version }) => version), [
    '2.0.0-rc.1',
    '1.2.0',
    '1.1.0',
    '1.0.0'
  ])
  const kubernetes = await versions('taskserv/kubernetes')
  t.strictSame(kubernetes.map(({ version, checksum }) => [version, checksum !== undefined]), [['1.28.0', true], [
    '1.27.5',
    true
  ], ['1.27.4', false]])
  t.equal((await versions('taskserv/many')).length, 57)
  const archive = provisioningContent().repositories.find(({ name }) => name === 'upcloud_provider')?.releases?.[0]
    ?.assets?.[0]
  t.equal(
    (await versions('provider/upcloud'))[0]?.checksum,
    `sha256:${sha256(archive?.content ?? '')}`,
    'from SHA256SUMS'
  )
  t.equal(
    (await versions('provider/aws'))[3]?.download_url,
    'https://gitea.example.com/provisioning/aws_prov/releases/download/v1.0.0/aws_prov.tar.gz',
    'the tag is unchanged, with its v'
  )
})

await t.test('a download returns the file of that version under its own name', async t => {
  const { get, gitea } = await setUp(t)
  const archive = provisioningContent().repositories.find(({ name }) => name === 'kubernetes_taskserv')?.releases?.[0]
    ?.assets?.[0]?.content
  const response = await get('/api/v1/extensions/taskserv/kubernetes/1.28.0')
  t.equal(response.statusCode, 200)
  t.ok(response.rawPayload.equals(Buffer.from(archive ?? '')))
  matchStrictly(t, response.headers, {
    'content-type': 'application/octet-stream',
    'content-disposition': 'attachment; filename=kubernetes_taskserv.tar.gz',
    'content-length': String(archive?.length),
    'repr-digest': `sha-256=:${Buffer.from(sha256(archive ?? ''), 'hex').toString('base64')}:`,
    etag: /^"[0-9a-f-]{36}"$/
  })
  t.equal(response.headers['set-cookie'], undefined, 'headers of the upstream are not passed on')
  t.equal(gitea.count(/releases\/download/), 0, 'fetched by uuid')
  t.equal(
    (await get('/api/v1/extensions/cluster/edge/1.0.0')).headers['content-disposition'],
    'attachment; filename="edge cluster (1.0.0).tar.gz"'
  )
})

await t.test('of two files with the same name the newer one is served, by its uuid', async t => {
  const { get } = await setUp(t)
  const edge = (await get('/api/v1/extensions/cluster/edge')).json<Extension>()
  t.match(edge.download_url, /^https:\/\/gitea\.example\.com\/attachments\/[0-9a-f-]{36}$/)
  const { rawPayload } = await get('/api/v1/extensions/cluster/edge/1.1.0')
  t.equal(
    `sha256:${sha256(rawPayload)}`,
    `sha256:${
      sha256(
        provisioningContent().repositories.find(({ name }) => name === 'edge_cluster')?.releases?.[1]?.assets?.[1]
          ?.content ?? ''
      )
    }`
  )
})

await t.test('the file is the archive named after the repository, the version or the extension, else the only ' +
  'archive', async t => {
  const release = (tag: string, ...names: string[]) => ({ tag, assets: names.map(name => file(name)) })
  const { get } = await setUp(t, {
    content: single('aws_prov', [
      release('1.0.0', 'other.zip', 'aws_prov.tar.gz', 'aws.zip'),
      release('v2.0.0', 'other.zip', 'aws_prov-2.0.0.tar.xz', 'aws.zip'),
      release('v3.0.0', 'other.zip', 'aws_prov-v3.0.0.zip'),
      release('4.0.0', 'other.zip', 'aws.tgz', 'notes.txt'),
      release('5.0.0', 'only.zip', 'only.zip.sha256', 'notes.txt'),
      release('6.0.0', 'one.zip', 'two.zip'),
      release('7.0.0', 'notes.txt')
    ])
  })
  const versions = (await get('/api/v1/extensions/provider/aws/versions')).json<ExtensionVersion[]>()
  t.strictSame(versions.map(({ version, download_url: url }) => `${version} ${url?.split('/').at(-1) ?? 'none'}`), [
    '7.0.0 none',
    '6.0.0 none',
    '5.0.0 only.zip',
    '4.0.0 aws.tgz',
    '3.0.0 aws_prov-v3.0.0.zip',
    '2.0.0 aws_prov-2.0.0.tar.xz',
    '1.0.0 aws_prov.tar.gz'
  ])
  matchStrictly(t, (await get('/api/v1/extensions/provider/aws/6.0.0')).json(), {
    error: 'not_found',
    message: 'Extension provider/aws version 6.0.0 has no file'
  })
})

await t.test('a checksum is read from each form that publishers and servers use, and not from entries that do not ' +
  'match', async t => {
  const digest = 'a'.repeat(64)
  const of = (tag: string, ...assets: Array<{ name: string, content: string }>) => ({
    tag,
    assets: [file('x_prov.tar.gz'), ...assets]
  })
  const { get } = await setUp(t, {
    content: single('x_prov', [
      of('1.0.0', { name: 'x_prov.tar.gz.sha256', content: digest.toUpperCase() }),
      of('2.0.0', { name: 'checksums.txt', content: `${'b'.repeat(64)}  other.zip\n${digest} *x_prov.tar.gz\n` }),
      of('3.0.0', { name: 'SHA256SUMS', content: `${digest}  ./x_prov.tar.gz\r\n` }),
      of('4.0.0', { name: 'x_prov.tar.gz.sha256', content: `${digest}  another.tar.gz\n` }),
      of('5.0.0', { name: 'SHA256SUMS', content: digest }),
      of('6.0.0', { name: 'x_prov.tar.gz.sha256', content: 'no digest at all' })
    ])
  })
  const versions = (await get('/api/v1/extensions/provider/x/versions')).json<ExtensionVersion[]>()
  t.strictSame(versions.map(({ version, checksum }) => [version, checksum]), [
    ['6.0.0', undefined],
    ['5.0.0', undefined],
    ['4.0.0', undefined],
    ['3.0.0', `sha256:${digest}`],
    ['2.0.0', `sha256:${digest}`],
    ['1.0.0', `sha256:${digest}`]
  ])
  for (const field of ['digest', 'sha256'] as const) {
    const own = await setUp(t, { content: single('x_prov', [of('1.0.0')]), options: { digests: field } })
    t.equal(
      (await own.get('/api/v1/extensions/provider/x')).json<Extension>().checksum,
      `sha256:${sha256('x_prov.tar.gz')}`,
      `the ${field} of the server`
    )
  }
})

await t.test('a user, a server with small pages, Gitea 1.22 and Forgejo are supported', async t => {
  const user = provisioningContent()
  user.owner.kind = 'user'
  t.equal(
    (await (await setUp(t, { content: user })).get('/api/v1/extensions')).headers['x-total-count'],
    '10',
    'a user'
  )

  const small = await setUp(t, { options: { maxResponseItems: 7 } })
  t.equal((await small.get('/api/v1/extensions')).headers['x-total-count'], '10', 'small pages')
  t.equal(small.gitea.count(/\/orgs\/provisioning\/repos\?.*limit=50/), Math.ceil(65 / 7))
  t.equal((await small.get('/api/v1/extensions/taskserv/many/versions')).json<unknown[]>().length, 57)

  const old = (await (await setUp(t, { options: { topics: false } })).get('/api/v1/extensions/provider/aws')).json<
    Extension
  >()
  t.equal(old.tags, undefined, 'without topics there are no tags, and no request for them')

  const forgejo = single('x_prov', [{
    tag: '1.0.0',
    assets: [{ name: 'x_prov.tar.gz', content: '', type: 'external', url: 'http://169.254.169.254/' }]
  }])
  t.equal(
    (await (await setUp(t, { content: forgejo, options: { forgejo: true } })).get('/api/v1/extensions/provider/x'))
      .json<Extension>().download_url,
    undefined,
    'an external link is not a file'
  )
})

await t.test('names are compared exactly: another letter case and a former name are not found', async t => {
  const { get } = await setUp(t)
  t.equal((await get('/api/v1/extensions/provider/AWS')).statusCode, 404)
  t.equal((await get('/api/v1/extensions/taskserv/renamed_old')).statusCode, 404)
  t.equal((await get('/api/v1/extensions/taskserv/renamed')).statusCode, 200)
})

await t.test('of two repositories of one extension the first with a version is used', async t => {
  const content: GiteaContent = {
    owner: { login: 'org' },
    repositories: [
      { name: 'aws_provider', releases: [{ tag: '9.0.0' }] }, { name: 'aws_prov', releases: [{ tag: '1.0.0' }] },
      { name: 'gcp_prov', releases: [{ tag: 'nightly' }] }, { name: 'gcp_provider', releases: [{ tag: '2.0.0' }] }
    ]
  }
  const { get, clock } = await setUp(t, { content })
  const names = async () =>
    (await get('/api/v1/extensions')).json<Extension[]>().map(({ name, version }) => `${name} ${version}`)
  t.strictSame(await names(), ['aws 1.0.0', 'gcp 2.0.0'])
  clock.forward(1000)
  t.strictSame([
    (await get('/api/v1/extensions/provider/aws')).json<Extension>().version,
    (await get('/api/v1/extensions/provider/gcp')).json<Extension>().version
  ], ['1.0.0', '2.0.0'])
  hasLine(t, (await get('/metrics')).body, 'extensions_skipped_total{backend="gitea",reason="duplicate"} 1')
})

await t.test('private repositories are included with a token, unless include_private is false', async t => {
  const shown = await setUp(t, { options: reader, config: { token: 'reader-token' } })
  matchStrictly(t, (await shown.get('/api/v1/extensions/provider/secret')).json(), { version: '5.0.0' })
  t.equal((await shown.get('/api/v1/extensions/provider/secret/5.0.0')).statusCode, 200)
  t.equal((await shown.get('/api/v1/extensions')).headers['x-total-count'], '11')
  const hidden = await setUp(t, { options: reader, config: { token: 'reader-token', include_private: false } })
  t.equal((await hidden.get('/api/v1/extensions/provider/secret')).statusCode, 404)
  t.equal((await hidden.get('/api/v1/extensions')).headers['x-total-count'], '10')
  const anonymous = await setUp(t, { options: reader })
  t.equal((await anonymous.get('/api/v1/extensions/provider/secret')).statusCode, 404)
})

await t.test('names of repositories can be configured', async t => {
  const { get } = await setUp(t, {
    content: single('terraform-aws', [{ tag: '1.0.0' }]),
    config: { mapping: { provider: ['terraform-{name}'] } }
  })
  matchStrictly(t, (await get('/api/v1/extensions')).json(), [{ type: 'provider', name: 'aws' }])
})
