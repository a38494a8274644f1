import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createGiteaApi } from '../../backends/gitea/api.ts'
import { createChecksums } from '../../backends/gitea/checksums.ts'
import { createGiteaDriver } from '../../backends/gitea/driver.ts'
import { createMapping } from '../../backends/driver/mapping.ts'
import { createOciDriver } from '../../backends/oci/driver.ts'
import { createLayout } from '../../backends/oci/layout/layout.ts'
import { parseConfig } from '../../lib/config/parse.ts'
import { createUpstream } from '../../plugins/upstream/client.ts'
import { artifacts } from '../fakes/artifacts.ts'
import { createGiteaFake, provisioningContent } from '../fakes/gitea.ts'
import { writeLayout, type FakeLayoutOptions } from '../fakes/layout.ts'
import { contentOf, createRegistryFake, type FlavourName, type RegistryFakeOptions } from '../fakes/registry.ts'
import { createRegistryDriver } from '../fakes/registry-driver.ts'
import { everything } from '../real/everything.ts'
import { fillGitea } from '../real/gitea-content.ts'
import { createGiteaRegistry, push, writeContent } from '../real/registry-content.ts'
import { conformance } from './conformance.ts'

const { gitea: [gitea], oci: [oci] } = parseConfig({
  gitea: { url: 'http://localhost', organization: 'x' },
  oci: { registry: '/' }
})

function giteaDriver (t: Test, url: string, organization: string, token?: string) {
  const upstream = createUpstream({ userAgent: 'extension-registry-tests' }, {
    instance: 'gitea',
    url,
    authorization: async () => token === undefined ? undefined : `token ${token}`,
    timeout: 10,
    verifySsl: true,
    redirectHosts: [],
    concurrency: 8
  })
  t.teardown(() => { upstream.close() })
  const api = createGiteaApi(upstream, { owner: organization })
  const checksums = createChecksums(api, { instance: 'gitea', immutable: { get: () => undefined, set: () => {} } })
  if (gitea === undefined) throw new Error('no configuration')
  return createGiteaDriver(api, checksums, {
    name: 'gitea',
    publicUrl: url,
    includePrivate: true,
    concurrency: 6,
    mapping: createMapping(gitea.mapping)
  })
}

await t.test('a Gitea fake made from recordings passes the conformance suite', async t => {
  await conformance(t, async t => {
    const fake = await createGiteaFake(provisioningContent())
    t.teardown(fake.close)
    return { driver: giteaDriver(t, fake.url, 'provisioning'), stop: fake.stop }
  })
})

const { TEST_GITEA_URL: url, TEST_GITEA_TOKEN: token } = process.env
await t.test('a real Gitea passes the conformance suite', {
  skip: url === undefined || token === undefined
    ? "set TEST_GITEA_URL and TEST_GITEA_TOKEN (an administrator's) to run it"
    : false
}, async t => {
  await conformance(t, async t => {
    const { organization, readerToken } = await fillGitea(url ?? '', token ?? '')
    return { driver: giteaDriver(t, url ?? '', organization, readerToken) }
  })
})

async function layoutSubject (t: Test, options: FakeLayoutOptions) {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(root, artifacts, options)
  if (oci === undefined) throw new Error('no configuration')
  const transport = createLayout({ instance: 'oci', registry: root })
  return {
    driver: createOciDriver({ name: 'oci', namespace: '', mapping: createMapping(oci.mapping), transport }),
    stop: async () => { await rm(root, { recursive: true }) }
  }
}

await t.test('a tree of OCI image layouts passes the conformance suite', async t => {
  await conformance(t, async t => await layoutSubject(t, { shape: 'tree' }))
})
await t.test('one OCI image layout with many repositories passes the conformance suite', async t => {
  await conformance(t, async t => await layoutSubject(t, { shape: 'single' }))
})

/** Returns a registry over HTTP with the content of the suite; the password of its user is in a file. */
async function registrySubject (t: Test, options: RegistryFakeOptions & { auth: 'anonymous' | 'basic' | 'bearer' }) {
  const folder = t.testdir({ password: 'pass:word\n' })
  const root = join(folder, 'layouts')
  await writeLayout(
    root,
    artifacts.map(artifact => ({ ...artifact, repository: `provisioning/${artifact.repository}` }))
  )
  const fake = await createRegistryFake(await contentOf(root), {
    users: { user: 'pass:word' },
    guests: options.auth === 'anonymous',
    ...options
  })
  t.teardown(fake.close)
  const driver = createRegistryDriver(t, {
    registry: fake.url,
    namespace: 'provisioning',
    discovery: options.flavour === 'harbor' ? 'harbor' : 'catalog',
    ...(options.auth !== 'anonymous' && { username: 'user', password_file: join(folder, 'password') })
  })
  return { driver, stop: fake.stop }
}

const servers: FlavourName[] = ['docker-registry', 'zot', 'gitea', 'harbor']
for (const flavour of servers) {
  for (const auth of ['anonymous', 'basic', 'bearer'] as const) {
    await t.test(`an OCI registry like ${flavour} passes the conformance suite, ${auth}`, async t => {
      await conformance(t, async t => await registrySubject(t, { flavour, auth }))
    })
  }
}

const { TEST_OCI_GITEA_URL: giteaUrl, TEST_OCI_GITEA_TOKEN: giteaToken, TEST_OCI_ZOT_URL: zotUrl } = process.env
await t.test('the registry of a real Gitea passes the conformance suite', {
  skip: giteaUrl === undefined || giteaToken === undefined
    ? "set TEST_OCI_GITEA_URL and TEST_OCI_GITEA_TOKEN (an administrator's) to run it"
    : false
}, async t => {
  const url = giteaUrl ?? ''
  const { organization, username } = await createGiteaRegistry(url, giteaToken ?? '')
  const folder = t.testdir({ password: giteaToken ?? '' })
  await writeContent(join(folder, 'layouts'), organization)
  await push(await contentOf(join(folder, 'layouts')), {
    url,
    authorization: async () => `Basic ${Buffer.from(`${username}:${giteaToken ?? ''}`).toString('base64')}`
  })
  await t.test('without a login', async t => {
    await conformance(t, async t => ({ driver: createRegistryDriver(t, { registry: url, namespace: organization }) }))
  })
  await t.test('with a password', async t => {
    await conformance(
      t,
      async t => ({
        driver: createRegistryDriver(t, {
          registry: url,
          namespace: organization,
          username,
          password_file: join(folder, 'password')
        })
      })
    )
  })
  const expected = await everything(t, { registry: join(folder, 'layouts'), namespace: organization })
  t.strictSame(
    await everything(t, { registry: url, namespace: organization }),
    expected,
    'all results equal those of a directory with the same content'
  )
})

await t.test('a real zot passes the conformance suite', {
  skip: zotUrl === undefined ? 'set TEST_OCI_ZOT_URL (a server that accepts pushes without a login) to run it' : false
}, async t => {
  const url = zotUrl ?? ''
  const namespace = `provisioning-${process.pid}-${Date.now()}`
  const root = join(t.testdir({}), 'layouts')
  await writeContent(root, namespace)
  await push(await contentOf(root), { url })
  await conformance(t, async t => ({ driver: createRegistryDriver(t, { registry: url, namespace }) }))
  t.strictSame(
    await everything(t, { registry: url, namespace }),
    await everything(t, { registry: root, namespace }),
    'all results equal those of a directory with the same content'
  )
})
