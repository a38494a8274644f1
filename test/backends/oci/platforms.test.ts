import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ExtensionVersion } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { writeLayout, type FakeArtifact } from '../../fakes/layout.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { contentOf, createRegistryFake } from '../../fakes/registry.ts'

const on = (architecture: string, variant?: string) => ({
  platform: { os: 'linux', architecture, ...(variant !== undefined && { variant }) }
})
/** Returns a version for amd64 and for arm64, as OpenTofu publishes providers. */
const both = (tag: string): FakeArtifact => ({
  repository: 'provider/aws',
  tag,
  layers: [{ content: `amd64 ${tag}`, mediaType: 'archive/zip' }],
  index: {
    descriptor: on('amd64'),
    more: [{ layers: [{ content: `arm64 ${tag}`, mediaType: 'archive/zip' }], descriptor: on('arm64', 'v8') }]
  }
})
const amd64Only: FakeArtifact = { repository: 'provider/aws', tag: '1.2.0', index: { descriptor: on('amd64') } }
const plain: FakeArtifact = {
  repository: 'provider/aws',
  tag: '0.9.0',
  layers: [{ content: 'for all', title: 'aws.tar.gz' }]
}

/** Starts the app with a directory, and with a registry of the same content. */
async function apps (t: Test, config: object = {}) {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(root, [plain, both('1.0.0'), both('1.1.0'), amd64Only])
  const fake = await createRegistryFake(await contentOf(root))
  t.teardown(fake.close)
  return await Promise.all([root, fake.url].map(async registry => {
    const { app, get } = await startApp(t, {
      server: { public_url: 'https://registry.example.com' },
      oci: { registry, ...config }
    })
    const versions = async () =>
      (await get('/api/v1/extensions/provider/aws/versions')).json<ExtensionVersion[]>().map(({ version }) => version)
    const file = async (version: string) => {
      const { statusCode, body, headers } = await get(`/api/v1/extensions/provider/aws/${version}`)
      return statusCode === 200
        ? `${String(headers['content-disposition']).replace('attachment; filename=', '')}: ${body}`
        : statusCode
    }
    return { app, get, versions, file }
  }))
}

await t.test('the configured platform of an index is served, and a version without it is not listed', async t => {
  for (const platform of ['linux/arm64', 'linux/aarch64/v8']) {
    for (const { app, versions, file } of await apps(t, { platform })) {
      t.strictSame(await versions(), ['1.1.0', '1.0.0', '0.9.0'])
      t.strictSame([await file('1.1.0'), await file('1.0.0'), await file('0.9.0')], [
        'aws-1.1.0.zip: arm64 1.1.0',
        'aws-1.0.0.zip: arm64 1.0.0',
        'aws.tar.gz: for all'
      ])
      t.equal(await file('1.2.0'), 404)
      const { items } = app.catalog.skipped()
      matchStrictly(t, items.find(({ kind }) => kind === 'tag'), {
        instance: 'oci',
        kind: 'tag',
        reason: 'other_platform',
        type: 'provider',
        name: 'aws',
        repository: 'provider/aws',
        version: '1.2.0',
        tag: '1.2.0'
      })
      matchStrictly(t, items.find(({ kind, tag }) => kind === 'manifest' && tag === '1.1.0'), {
        reason: 'other_platform',
        version: '1.1.0',
        file: 'linux/amd64',
        chosen: 'linux/arm64'
      })
    }
  }
})

await t.test('without a configured platform the first one of an index is served, and the choice is ' +
  'reported', async t => {
  for (const { app, versions, file } of await apps(t)) {
    t.strictSame(await versions(), ['1.2.0', '1.1.0', '1.0.0', '0.9.0'])
    t.equal(await file('1.1.0'), 'aws-1.1.0.zip: amd64 1.1.0')
    t.strictSame(app.catalog.skipped().counts, [{
      instance: 'oci',
      kind: 'manifest',
      reason: 'other_platform',
      count: 2
    }])
    matchStrictly(t, app.catalog.skipped().items[0], { kind: 'manifest', file: 'linux/arm64', chosen: 'linux/amd64' })
  }
})

await t.test('the choice of a platform is logged once, and not for each crawl', async t => {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(root, [both('1.0.0'), both('1.1.0')])
  const lines: string[] = []
  const { app, clock, get } = await startApp(t, { oci: { registry: root } })
  const { info } = app.log
  app.log.info = (...args: unknown[]) => {
    lines.push(JSON.stringify(args))
    info.apply(app.log, args as Parameters<typeof info>)
  }
  for (let crawl = 0; crawl < 3; crawl++) {
    await get('/api/v1/extensions')
    await get('/api/v1/extensions/provider/aws/versions')
    clock.forward(301)
  }
  matchStrictly(t, lines.filter(line => line.includes('several platforms')), [
    /"backend":"oci".*"repository":"provider\/aws".*"platform":"linux\/amd64".*set oci\.platform/
  ])
  t.equal(lines.filter(line => line.includes('several platforms')).length, 1)
  t.ok(lines.some(line => line.includes('other_platform')), 'each crawl logs the numbers')
})

await t.test('another platform changes the identity of the snapshot', async t => {
  const identities = await Promise.all(
    [{}, { platform: 'linux/amd64' }, { platform: 'linux/arm64' }, { timeout_seconds: 7 }].map(async config =>
      (await startApp(t, { oci: { registry: 'http://127.0.0.1:9', ...config } })).app.oci.instances[0]?.identity
    )
  )
  t.equal(new Set(identities).size, 3)
  t.equal(identities[3], identities[0])
})
