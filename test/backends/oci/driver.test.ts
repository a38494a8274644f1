import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { Value } from '@sinclair/typebox/value'
import t, { type Test } from 'tap'
import { createMapping } from '../../../backends/driver/mapping.ts'
import { createOciDriver, type OciDriverOptions } from '../../../backends/oci/driver.ts'
import { createLayout } from '../../../backends/oci/layout/layout.ts'
import { ContentError, type Transport } from '../../../backends/oci/transport.ts'
import { registryError } from '../../../lib/errors.ts'
import { OciConfig } from '../../../schemas/upstreams.ts'
import {
  halfWriteIndex,
  indexType,
  manifestType,
  writeLayout,
  type FakeArtifact,
  type FakeLayoutOptions
} from '../../fakes/layout.ts'
import { matchStrictly } from '../../fakes/match.ts'
import {
  chart,
  containerImage as image,
  helmChart,
  orasArtifact,
  orasDirectory,
  orasFile,
  provenance
} from '../../fakes/pushed.ts'
import { notingSkips } from '../../fakes/skips.ts'

const { mapping } = Value.Default(OciConfig, { registry: '.' }) as OciConfig
const { signal } = new AbortController()
const created = 'org.opencontainers.image.created'
const at = (time: string) => ({ [created]: time })

/** Returns a transport that records its calls, by method. */
function counted (transport: Transport) {
  const calls: string[] = []
  const counting: Transport = {
    ...transport,
    tags: async repository => {
      calls.push(`tags ${repository}`)
      return await transport.tags(repository)
    },
    resolve: async (repository, tag) => {
      calls.push(`resolve ${repository}:${tag}`)
      return await transport.resolve(repository, tag)
    },
    manifest: async (repository, digest) => {
      calls.push(`manifest ${repository}`)
      return await transport.manifest(repository, digest)
    },
    blob: async (repository, content, options) => {
      calls.push(`blob ${repository}`)
      return await transport.blob(repository, content, options)
    }
  }
  return { counting, calls, of: (method: string) => calls.filter(call => call.startsWith(`${method} `)).length }
}

type Options = Partial<OciDriverOptions> & { written?: FakeLayoutOptions, change?: (transport: Transport) => Transport }

async function driverOf (
  t: Test,
  artifacts: FakeArtifact[],
  { written = {}, change = transport => transport, ...options }: Options = {}
) {
  const root = join(t.testdir({}), 'root')
  const content = await writeLayout(root, artifacts, written)
  const { counting, calls, of } = counted(change(createLayout({ instance: 'oci', registry: root, delay: 0 })))
  const { driver, skipped } = notingSkips(
    createOciDriver({ name: 'oci', namespace: '', mapping: createMapping(mapping), transport: counting, ...options })
  )
  const list = async () =>
    (await driver.list()).found.map(({ metadata: { type, name }, release: { version } }) =>
      `${type}/${name} ${version}`
    ).sort()
  const versions = async (name: string) => (await driver.load('provider', name))?.releases.map(({ version }) => version)
  return { root, driver, content, skipped, calls, of, list, versions }
}

const provider = (name: string, tag: string, more: Partial<FakeArtifact> = {}): FakeArtifact => ({
  repository: `provider/${name}`,
  tag,
  ...more
})
const down = () => registryError('service_unavailable', 'Instance oci is unavailable', { instance: 'oci' })

await t.test('a list has each extension once, at its current version, with the fields of its manifest', async t => {
  const annotations = {
    [created]: '2025-10-06T12:00:00Z',
    'org.opencontainers.image.description': 'AWS provider',
    'org.opencontainers.image.vendor': 'team',
    'io.artifacthub.keywords': 'cloud,aws'
  }
  const { driver, content } = await driverOf(t, [
    provider('aws', '1.2.0', { annotations, layers: [{ content: 'content', title: 'aws_prov.tar.gz' }] }),
    provider('aws', '1.1.0')
  ])
  const file = {
    name: 'aws_prov.tar.gz',
    size: 7,
    checksum: content[0]?.file,
    validator: content[0]?.file,
    locator: `provider/aws@${content[0]?.file}`
  }
  t.strictSame(await driver.list(), {
    found: [{
      metadata: { name: 'aws', type: 'provider', description: 'AWS provider', author: 'team', tags: ['cloud', 'aws'] },
      release: { version: '1.2.0', published_at: '2025-10-06T12:00:00Z', file }
    }],
    failed: []
  })
})

await t.test('only repositories below the namespace that match the mapping are read', async t => {
  const artifacts = [
    'ns/provider/aws',
    'ns/kubernetes_taskserv',
    'ns/clusters/web',
    'ns/docs',
    'other/provider/gcp',
    'provider/top'
  ].map(repository => ({ repository, tag: '1.0.0' }))
  const { list, driver, calls } = await driverOf(t, artifacts, { namespace: 'ns' })
  t.strictSame(await list(), ['cluster/web 1.0.0', 'provider/aws 1.0.0', 'taskserv/kubernetes 1.0.0'])
  t.notOk(calls.some(call => /other|docs|top/.test(call)))
  t.ok(await driver.load('taskserv', 'kubernetes'))
  t.equal(await driver.load('provider', 'gcp'), undefined)
  t.equal(await driver.load('provider', '../../other/provider/gcp'), undefined)
})

await t.test('a crawl reads only the manifests that decide about the current version', async t => {
  const { list, of } = await driverOf(
    t,
    ['1.0.0', '1.10.0', '1.9.0', '2.0.0-rc.1', 'latest'].map(tag => provider('aws', tag))
  )
  t.strictSame(await list(), ['provider/aws 1.10.0'])
  t.equal(of('manifest'), 1)
})

await t.test('a crawl reads lower versions until one is an artifact, releases before pre-releases', async t => {
  const artifacts = [
    image('provider/aws', '3.0.0', ['base', 'app']),
    provider('aws', '2.0.0', { fault: 'missing manifest' }),
    provider('aws', '1.0.0'),
    provider('aws', '4.0.0-rc.1')
  ]
  const { list, skipped, of } = await driverOf(t, artifacts)
  t.strictSame(await list(), ['provider/aws 1.0.0'])
  t.equal(of('manifest'), 3)
  t.strictSame(skipped, ['not_an_artifact provider/aws:3.0.0', 'missing_content provider/aws:2.0.0'])
  t.strictSame(
    await (await driverOf(t, [
      image('provider/aws', '1.0.0', ['base', 'app']),
      provider('aws', '0.9.0-beta.1'),
      provider('aws', '0.9.0-beta.2')
    ])).list(),
    ['provider/aws 0.9.0-beta.2']
  )
})

await t.test('of versions with equal precedence the newest is current, in the list and among the versions', async t => {
  const { list, versions } = await driverOf(t, [
    provider('aws', '1.0.0_b', { annotations: at('2025-01-02T00:00:00Z') }),
    provider('aws', '1.0.0_a', { annotations: at('2025-01-03T00:00:00Z') }),
    provider('aws', '1.0.0', { annotations: at('2025-01-01T00:00:00Z') })
  ])
  t.strictSame(await list(), ['provider/aws 1.0.0+a'])
  t.strictSame(await versions('aws'), ['1.0.0+a', '1.0.0+b', '1.0.0'])
})

await t.test('a load returns all versions highest first, with the metadata of the current one', async t => {
  const described = (description: string) => ({ annotations: { 'org.opencontainers.image.description': description } })
  const { driver, versions } = await driverOf(t, [
    provider('aws', 'v1.0.0', described('old')),
    provider('aws', '1.10.0', described('current')),
    provider('aws', '1.9.0'),
    provider('aws', '2.0.0-rc.1', described('next'))
  ])
  t.strictSame(await versions('aws'), ['2.0.0-rc.1', '1.10.0', '1.9.0', '1.0.0'])
  t.equal((await driver.load('provider', 'aws'))?.metadata.description, 'current')
  t.equal(await driver.load('taskserv', 'aws'), undefined)
})

await t.test('signatures and other tags that are not versions are skipped', async t => {
  const { versions, skipped } = await driverOf(
    t,
    ['1.0.0', 'latest', `sha256-${'a'.repeat(64)}`, `sha256-${'a'.repeat(64)}.sig`, '1.0', '1.0.0_a_b'].map(tag =>
      provider('aws', tag)
    )
  )
  t.strictSame(await versions('aws'), ['1.0.0'])
  t.equal(skipped.length, 5)
  t.ok(skipped.every(skip => skip.startsWith('not_semver provider/aws:')))
  t.ok(skipped.includes('not_semver provider/aws:1.0.0_a_b'), 'the tag in its original spelling')
})

await t.test('of two tags of one version the tag without v is used', async t => {
  const { driver } = await driverOf(t, [
    provider('aws', 'v1.0.0', { annotations: at('2020-01-01T00:00:00Z') }),
    provider('aws', '1.0.0', { annotations: at('2021-01-01T00:00:00Z') })
  ])
  matchStrictly(t, await driver.load('provider', 'aws'), {
    releases: [{ version: '1.0.0', published_at: '2021-01-01T00:00:00Z' }]
  })
})

await t.test('a version may have no file, no annotations, or an index', async t => {
  const { driver, content } = await driverOf(t, [
    provider('aws', '3.0.0', { layers: [] }),
    provider('aws', '2.0.0', {
      layers: [{ content: '{}', mediaType: 'application/vnd.oci.empty.v1+json' }],
      annotations: at('2025-01-01T00:00:00Z')
    }),
    provider('aws', '1.0.0', {
      index: {
        before: [{ mediaType: 'application/vnd.example', digest: `sha256:${'a'.repeat(64)}`, size: 1 }, 7],
        annotations: at('2024-01-01T00:00:00Z')
      }
    })
  ])
  const loaded = await driver.load('provider', 'aws')
  t.strictSame(loaded?.metadata, { name: 'aws', type: 'provider', description: '' })
  t.strictSame(loaded?.releases.map(({ version, published_at: time, file }) => [version, time, file?.checksum]), [
    ['3.0.0', '1970-01-01T00:00:00Z', undefined],
    ['2.0.0', '2025-01-01T00:00:00Z', undefined],
    ['1.0.0', '2024-01-01T00:00:00Z', content[2]?.file]
  ])
})

await t.test('the time of a tag descriptor has priority over that of the config, which is read only without ' +
  'it', async t => {
  const config = { created: '2023-03-03T03:03:03.9Z' }
  const { driver, of } = await driverOf(t, [
    provider('aws', '2.0.0', { config, tagAnnotations: at('2022-02-02T02:02:02Z') }),
    provider('aws', '1.0.0', { config, layers: [{ content: 'x' }] })
  ])
  matchStrictly(t, await driver.load('provider', 'aws'), {
    releases: [{ published_at: '2022-02-02T02:02:02Z' }, {
      published_at: '2023-03-03T03:03:03Z',
      file: { name: 'aws-1.0.0.tar.gz' }
    }]
  })
  t.equal(of('blob'), 1)
})

await t.test('a damaged manifest does not affect the other versions', async t => {
  const { list, versions, skipped } = await driverOf(t, [
    provider('aws', '2.0.0', { fault: 'wrong manifest' }),
    provider('aws', '1.0.0')
  ])
  t.strictSame(await versions('aws'), ['1.0.0'])
  t.strictSame(await list(), ['provider/aws 1.0.0'])
  t.strictSame(skipped, ['malformed provider/aws:2.0.0', 'malformed provider/aws:2.0.0'])
})

await t.test('of two repositories of one extension the first in the order of the mapping that has a version is ' +
  'used', async t => {
  const { list, versions, skipped } = await driverOf(t, [
    { repository: 'aws-prov', tag: '9.0.0' },
    { repository: 'providers/aws', tag: '1.0.0' },
    image('provider/aws', '2.0.0', ['base', 'app'])
  ])
  t.strictSame(await list(), ['provider/aws 1.0.0'])
  t.ok(skipped.includes('duplicate aws-prov'))
  t.notOk(skipped.includes('duplicate provider/aws'), 'a repository without a version does not shadow others')
  t.strictSame(await versions('aws'), ['1.0.0'])
})

await t.test('a repository that cannot be read is reported as failed, and another one of its extension does not ' +
  'replace it', async t => {
  const { root, driver } = await driverOf(t, [
    provider('aws', '1.0.0'),
    { repository: 'aws_prov', tag: '1.0.0' },
    provider('gcp', '1.0.0')
  ])
  await halfWriteIndex(join(root, 'provider/aws'))
  const { found, failed } = await driver.list()
  t.strictSame(found.map(({ metadata }) => metadata.name), ['gcp'])
  matchStrictly(t, failed, [{ type: 'provider', name: 'aws', error: { code: 'service_unavailable', instance: 'oci' } }])
  await t.rejects(driver.load('provider', 'aws'), { code: 'service_unavailable' })
})

await t.test('a crawl fails when no repository can be read', async t => {
  const { root, driver } = await driverOf(t, [provider('aws', '1.0.0')])
  await halfWriteIndex(join(root, 'provider/aws'))
  await t.rejects(driver.list(), { code: 'service_unavailable', instance: 'oci' })
  await rm(root, { recursive: true })
  await t.rejects(driver.list(), { code: 'service_unavailable', instance: 'oci' })
  await t.rejects(driver.ping(signal), { code: 'service_unavailable', instance: 'oci' })
})

await t.test('a manifest that cannot be read fails its repository, and no older version replaces it', async t => {
  const { driver, versions } = await driverOf(t, [
    provider('aws', '2.0.0'),
    provider('aws', '1.0.0'),
    provider('gcp', '1.0.0')
  ], {
    change: transport => ({
      ...transport,
      manifest: async (repository, digest) => {
        if (repository === 'provider/aws') throw down()
        return await transport.manifest(repository, digest)
      }
    })
  })
  matchStrictly(t, await driver.list(), { found: [{ metadata: { name: 'gcp' } }], failed: [{ name: 'aws' }] })
  await t.rejects(versions('aws'), { code: 'service_unavailable' })
})

await t.test('a bug is not treated as an outage', async t => {
  const { driver } = await driverOf(t, [provider('aws', '1.0.0'), provider('gcp', '1.0.0')], {
    change: transport => ({
      ...transport,
      tags: async repository => {
        if (repository === 'provider/aws') throw new TypeError('bug')
        return await transport.tags(repository)
      }
    })
  })
  await t.rejects(driver.list(), { name: 'TypeError' })
})

await t.test('a truncated crawl is reported as truncated', async t => {
  const { driver } = await driverOf(t, [provider('aws', '1.0.0')], {
    change: transport => ({
      ...transport,
      repositories: async namespace => ({ ...await transport.repositories(namespace), truncated: true })
    })
  })
  t.equal((await driver.list()).truncated, true)
})

await t.test('tags without a digest are resolved, and content that is cached by digest is not read again', async t => {
  const kept = new Map<string, Buffer>()
  const immutable = {
    get: async (digest: string) => kept.get(digest),
    set: async (digest: string, bytes: Buffer) => {
      kept.set(digest, bytes)
    }
  }
  const change = (transport: Transport): Transport => ({
    ...transport,
    tags: async repository => (await transport.tags(repository))?.map(({ name }) => ({ name }))
  })
  const { driver, of, content } = await driverOf(t, [provider('aws', '1.0.0'), provider('aws', '1.1.0')], {
    change,
    immutable
  })
  await driver.load('provider', 'aws')
  t.strictSame([of('resolve'), of('manifest')], [2, 2])
  t.strictSame([...kept.keys()].sort(), content.map(({ manifest }) => manifest).sort())
  await driver.load('provider', 'aws')
  t.strictSame([of('resolve'), of('manifest')], [4, 2])
})

await t.test('a body that is sent with its digest is cached and not read again, and damaged content is not ' +
  'cached', async t => {
  const kept: string[] = []
  const immutable = { get: () => undefined, set: (digest: string) => { kept.push(digest) } }
  const change = (transport: Transport): Transport => ({
    ...transport,
    tags: async repository => (await transport.tags(repository))?.map(({ name }) => ({ name })),
    resolve: async (repository, tag) => {
      const target = await transport.resolve(repository, tag)
      const manifest = target === undefined ? undefined : await transport.manifest(repository, target.digest)
      return target === undefined || manifest === undefined ? target : { ...target, manifest }
    }
  })
  const whole = await driverOf(t, [provider('aws', '1.0.0')], { change, immutable })
  t.strictSame(await whole.versions('aws'), ['1.0.0'])
  t.equal(whole.of('manifest'), 0)
  t.strictSame(kept.splice(0), [whole.content[0]?.manifest])
  const damaged = await driverOf(t, [provider('aws', '1.0.0', { fault: 'wrong manifest' })], { immutable })
  await t.rejects(damaged.versions('aws'), {
    code: 'service_unavailable',
    details: 'Content of a repository is damaged'
  })
  t.strictSame(kept, [])
})

await t.test('the number of concurrent requests is limited', async t => {
  let open = 0
  let maximum = 0
  const slow = <A extends unknown[], R>(send: (...args: A) => Promise<R>) => async (...args: A) => {
    maximum = Math.max(maximum, ++open)
    return await send(...args).finally(() => { open-- })
  }
  const artifacts = Array.from({ length: 20 }, (_, index) => provider(`p${index}`, '1.0.0'))
  const { list } = await driverOf(t, artifacts, {
    concurrency: 3,
    change: transport => ({ ...transport, tags: slow(transport.tags), manifest: slow(transport.manifest) })
  })
  t.equal((await list()).length, 20)
  t.equal(maximum, 3)
})

await t.test('a file is opened from its first byte, with its length', async t => {
  const { driver } = await driverOf(t, [provider('aws', '1.0.0')])
  const file = (await driver.load('provider', 'aws'))?.releases[0]?.file
  const artifact = file === undefined ? undefined : await driver.open(file, { signal })
  t.equal(artifact?.length, 26)
  t.equal(artifact === undefined ? undefined : await text(artifact.stream), 'file of provider/aws 1.0.0')
})

await t.test('a missing file is absent, a file of another size is unavailable, and the reader verifies the ' +
  'content', async t => {
  const opened = async (fault: NonNullable<FakeArtifact['fault']>) => {
    const { driver } = await driverOf(t, [provider('aws', '1.0.0', { fault })])
    const file = (await driver.load('provider', 'aws'))?.releases[0]?.file
    if (file === undefined) throw new Error('the version has no file')
    return await driver.open(file, { signal })
  }
  t.equal(await opened('missing blob'), undefined)
  t.equal(await opened('blob outside'), undefined)
  await t.rejects(opened('long blob'), { code: 'service_unavailable', instance: 'oci', cause: ContentError })
  const wrong = await opened('wrong blob')
  t.equal(wrong?.file.checksum === undefined, false)
})

await t.test('a file has an address when the transport has one', async t => {
  const { driver } = await driverOf(t, [provider('aws', '1.0.0')], {
    change: transport => ({
      ...transport,
      url: (repository, { digest }) => `https://registry.example.com/v2/${repository}/blobs/${digest}`
    })
  })
  const file = (await driver.load('provider', 'aws'))?.releases[0]?.file
  t.equal(file?.url, `https://registry.example.com/v2/provider/aws/blobs/${file?.checksum}`)
})

await t.test('one layout with many repositories returns the same results', async t => {
  const { list, versions } = await driverOf(t, [
    { repository: 'ns/provider/aws', tag: '1.0.0' },
    { repository: 'ns/provider/aws', tag: '1.1.0_x' },
    { repository: 'ns/web_cluster', tag: '2.0.0' },
    { repository: 'xx/provider/gcp', tag: '1.0.0' }
  ], {
    namespace: 'ns',
    written: { shape: 'single', junk: [{ mediaType: indexType }] }
  })
  t.strictSame(await list(), ['cluster/web 2.0.0', 'provider/aws 1.1.0+x'])
  t.strictSame(await versions('aws'), ['1.1.0+x', '1.0.0'])
})

await t.test('a repository whose versions are all damaged has failed, unlike one without an artifact', async t => {
  const { driver } = await driverOf(t, [
    provider('damaged', '1.0.0', { fault: 'wrong manifest' }),
    provider('lost', '1.0.0', { fault: 'missing manifest' }),
    provider('image', '1.0.0', { layers: [] }),
    provider('partly', '1.0.0'),
    provider('partly', '2.0.0', { fault: 'wrong manifest' }),
    provider('good', '1.0.0')
  ])
  const { found, failed } = await driver.list()
  t.strictSame(failed.map(({ name }) => name).sort(), ['damaged', 'lost'])
  t.strictSame(found.map(({ metadata: { name }, release: { version } }) => `${name} ${version}`).sort(), [
    'good 1.0.0',
    'image 1.0.0',
    'partly 1.0.0'
  ])
  for (const name of ['damaged', 'lost']) {
    await t.rejects(driver.load('provider', name), {
      code: 'service_unavailable',
      details: 'Content of a repository is damaged'
    })
  }
  matchStrictly(t, await driver.load('provider', 'partly'), { releases: [{ version: '1.0.0' }] })
})

await t.test('a chart whose later versions are signed is listed with all versions', async t => {
  const { list, driver, skipped, content } = await driverOf(t, [
    helmChart('provider/aws', '1.0.0', [chart('1.0.0')]),
    helmChart('provider/aws', '1.1.0', [chart('1.1.0'), provenance('of 1.1.0')]),
    helmChart('provider/aws', '1.2.0_build.1', [provenance('of 1.2.0'), chart('1.2.0')])
  ])
  t.strictSame(await list(), ['provider/aws 1.2.0+build.1'])
  const loaded = await driver.load('provider', 'aws')
  t.strictSame(loaded?.releases.map(({ version, file }) => [version, file?.name, file?.size]), [
    ['1.2.0+build.1', 'aws-1.2.0+build.1.tar.gz', 5],
    ['1.1.0', 'aws-1.1.0.tar.gz', 5],
    ['1.0.0', 'aws-1.0.0.tar.gz', 5]
  ])
  t.equal(loaded?.releases[1]?.file?.checksum, content[1]?.file)
  t.strictSame(skipped, [])
})

await t.test('a directory next to a README, as ORAS pushes them, is the file in either order', async t => {
  const { list, driver, skipped } = await driverOf(t, [
    orasArtifact('provider/aws', '1.0.0', [orasDirectory('aws', 'the directory'), orasFile('README.md', 'read me')]),
    orasArtifact('provider/aws', '1.1.0', [orasFile('README.md', 'read me'), orasDirectory('aws', 'the new directory')])
  ])
  t.strictSame(await list(), ['provider/aws 1.1.0'])
  t.strictSame((await driver.load('provider', 'aws'))?.releases.map(({ file }) => [file?.name, file?.size]), [[
    'aws.tar.gz',
    17
  ], ['aws.tar.gz', 13]])
  t.strictSame(skipped, [])
})

await t.test('a second archive of a version is reported as skipped, with its name', async t => {
  const { list, versions, skipped } = await driverOf(t, [
    orasArtifact('provider/aws', '1.0.0', [
      orasFile('b.tar.gz', 'b'),
      orasFile('LICENSE', 'free'),
      orasFile('a.tar.gz', 'a')
    ])
  ])
  await list()
  await versions('aws')
  t.strictSame(skipped, ['not_chosen provider/aws:1.0.0 a.tar.gz', 'not_chosen provider/aws:1.0.0 a.tar.gz'])
})

await t.test('the file of the configured platform in an index is served, and other platforms are reported as ' +
  'skipped', async t => {
  const on = (architecture: string) => ({ platform: { os: 'linux', architecture } })
  const amd64 = { mediaType: manifestType, digest: `sha256:${'a'.repeat(64)}`, size: 1, ...on('amd64') }
  const artifacts = [
    provider('aws', '1.0.0', { index: { before: [amd64], descriptor: on('arm64') } }),
    provider('aws', '1.1.0', { index: { before: [amd64], descriptor: on('riscv64') } })
  ]
  const configured = await driverOf(t, artifacts, {
    platform: 'linux/aarch64',
    onFirstPlatform: () => {
      t.fail('a platform is configured, so no first platform is chosen')
    }
  })
  t.strictSame(await configured.versions('aws'), ['1.0.0'])
  t.strictSame(await configured.list(), ['provider/aws 1.0.0'])
  t.strictSame([...new Set(configured.skipped)].sort(), [
    'other_platform provider/aws:1.0.0 linux/amd64',
    'other_platform provider/aws:1.1.0'
  ])
  const observed: unknown[] = []
  const first = await driverOf(t, artifacts.slice(0, 1), { onFirstPlatform: choice => { observed.push(choice) } })
  t.strictSame(await first.versions('aws'), ['1.0.0'])
  t.strictSame(first.skipped, ['missing_content provider/aws:1.0.0 linux/amd64'])
  t.strictSame(observed, [{ repository: 'provider/aws', tag: '1.0.0', platform: 'linux/arm64' }])
  t.strictSame(
    await (await driverOf(t, artifacts.slice(1), { platform: 'linux/arm64' })).list(),
    [],
    'an extension of another platform is absent, and this is not an outage'
  )
})
