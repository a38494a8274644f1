import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createGiteaApi } from '../../backends/gitea/api.ts'
import { createChecksums } from '../../backends/gitea/checksums.ts'
import { createGiteaDriver } from '../../backends/gitea/driver.ts'
import { createMapping } from '../../backends/mapping.ts'
import { createOciDriver } from '../../backends/oci/driver.ts'
import { createLayout } from '../../backends/oci/layout.ts'
import { parseConfig } from '../../plugins/config.ts'
import { createUpstream } from '../../plugins/upstream.ts'
import { createGiteaFake, provisioningContent } from '../fakes/gitea.ts'
import { writeLayout, type FakeArtifact, type FakeLayoutOptions } from '../fakes/layout.ts'
import { fillGitea } from '../real/gitea-content.ts'
import { conformance } from './conformance.ts'

const { gitea: [gitea], oci: [oci] } = parseConfig({ gitea: { url: 'http://localhost', organization: 'x' }, oci: { registry: '/' } })
const skip = () => {}

function giteaDriver (t: Test, url: string, organization: string, token?: string) {
  const upstream = createUpstream({ userAgent: 'extension-registry-tests' }, {
    instance: 'gitea', url, authorization: async () => token === undefined ? undefined : `token ${token}`, timeout: 10, verifySsl: true, redirectHosts: [], concurrency: 8
  })
  t.teardown(() => { upstream.close() })
  const api = createGiteaApi(upstream, { instance: 'gitea', owner: organization, skip })
  const checksums = createChecksums(api, { instance: 'gitea', immutable: { get: () => undefined, set: () => {} }, skip })
  if (gitea === undefined) throw new Error('no configuration')
  return createGiteaDriver(api, checksums, { name: 'gitea', publicUrl: url, includePrivate: true, concurrency: 8, mapping: createMapping(gitea.mapping), skip })
}

await t.test('Gitea, faked from recordings', async t => {
  await conformance(t, async t => {
    const fake = await createGiteaFake(provisioningContent())
    t.teardown(fake.close)
    return { driver: giteaDriver(t, fake.url, 'provisioning'), stop: fake.stop }
  })
})

const { TEST_GITEA_URL: url, TEST_GITEA_TOKEN: token } = process.env
await t.test('a real Gitea', { skip: url === undefined || token === undefined ? 'set TEST_GITEA_URL and TEST_GITEA_TOKEN (an administrator\'s) to run it' : false }, async t => {
  await conformance(t, async t => {
    const { organization, readerToken } = await fillGitea(url ?? '', token ?? '')
    return { driver: giteaDriver(t, url ?? '', organization, readerToken) }
  })
})

const artifact = (repository: string, tag: string, description: string, file?: string, keywords?: string): FakeArtifact => ({
  repository,
  tag,
  layers: file === undefined ? [] : [{ content: `${repository} ${tag}`, title: file }],
  annotations: {
    'org.opencontainers.image.created': '2026-11-23T05:24:36Z',
    'org.opencontainers.image.description': description,
    'org.opencontainers.image.vendor': 'Provisioning team',
    ...(keywords !== undefined && { 'io.artifacthub.keywords': keywords })
  }
})
const artifacts = [
  ...['v1.0.0', '1.1.0', '1.2.0', '2.0.0-rc.1', 'nightly'].map(tag => artifact('provider/aws', tag, 'AWS provider for provisioning infrastructure', 'aws_prov.tar.gz', 'aws,cloud,infrastructure')),
  ...['0.1.0-alpha.1', '0.1.0-alpha.10', '0.1.0-alpha.9'].map(tag => artifact('onlyrc_prov', tag, 'Nothing but pre-releases', 'onlyrc_prov.tar.gz')),
  ...['1.28.0', '1.27.4', '1.27.5'].map(tag => artifact('taskservs/kubernetes', tag, 'Kubernetes container orchestration platform', 'kubernetes_taskserv.tar.gz', 'containers')),
  artifact('taskserv/k3s', 'v1.27.5_k3s1', 'Lightweight Kubernetes distribution', 'k3s_taskserv.tar.gz'),
  artifact('cluster/web', '0.9.0', 'Web tier: load balancer, app servers, database'),
  artifact('website', '1.0.0', 'Not an extension', 'website.tar.gz')
]

async function layoutSubject (t: Test, options: FakeLayoutOptions) {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(root, artifacts, options)
  if (oci === undefined) throw new Error('no configuration')
  const transport = createLayout({ instance: 'oci', registry: root })
  return {
    driver: createOciDriver({ name: 'oci', namespace: '', mapping: createMapping(oci.mapping), transport, skip }),
    stop: async () => { await rm(root, { recursive: true }) }
  }
}

await t.test('a tree of OCI image layouts', async t => { await conformance(t, async t => await layoutSubject(t, { shape: 'tree' })) })
await t.test('one OCI image layout of many repositories', async t => { await conformance(t, async t => await layoutSubject(t, { shape: 'single' })) })
