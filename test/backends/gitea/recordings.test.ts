import { readdirSync, readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { createGiteaApi } from '../../../backends/gitea/api.ts'
import { createChecksums } from '../../../backends/gitea/checksums.ts'
import { createGiteaDriver } from '../../../backends/gitea/driver.ts'
import { createMapping } from '../../../backends/driver/mapping.ts'
import { isRegistryError } from '../../../lib/errors.ts'
import { createUpstream } from '../../../plugins/upstream/client.ts'
import { parseConfig } from '../../../lib/config/parse.ts'
import { createLoopback, type LoopbackResponse, type LoopbackRequest } from '../../fakes/loopback.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { notingSkips } from '../../fakes/skips.ts'

interface Recording {
  note: string
  request: { method: string, path: string, headers: Record<string, string> }
  response: { status: number, headers: Record<string, string>, json?: unknown, text?: string, base64?: string }
}

const folder = new URL('../../recordings/gitea/', import.meta.url)
const recordings = new Map(
  readdirSync(folder).filter(name => name.endsWith('.json'))
    .map(name => [name.replace(/\.json$/, ''), JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as Recording])
)

function responseOf (name: string): LoopbackResponse {
  const recording = recordings.get(name)
  if (recording === undefined) throw new Error(`recording ${name} is missing`)
  const { status, headers, json, text, base64 } = recording.response
  const { 'content-length': _length, 'transfer-encoding': _coding, ...kept } = headers
  return {
    status,
    headers: kept,
    body: json !== undefined ? JSON.stringify(json) : text ?? Buffer.from(base64 ?? '', 'base64')
  }
}

/** Returns a driver whose upstream responds with the recording that `answers` names. */
async function replay (t: Test, responses: (request: LoopbackRequest) => string) {
  // A recording is the first page; further pages are empty.
  const server = await createLoopback(request => {
    const response = responseOf(responses(request))
    return Number(new URL(request.path, 'http://server').searchParams.get('page') ?? 1) > 1
      ? { ...response, body: '[]' }
      : response
  })
  const { gitea: [config] } = parseConfig({ gitea: { url: server.url, organization: 'provisioning' } })
  if (config === undefined) throw new Error('No configuration')
  const upstream = createUpstream({ userAgent: 'test', random: () => 0 }, {
    instance: 'gitea',
    url: server.url,
    authorization: async () => undefined,
    timeout: 5,
    verifySsl: true,
    redirectHosts: [],
    concurrency: 8
  })
  t.teardown(async () => {
    upstream.close()
    await server.close()
  })
  const api = createGiteaApi(upstream, { owner: 'provisioning' })
  const checksums = createChecksums(api, { instance: 'gitea', immutable: { get: () => undefined, set: () => {} } })
  const { driver, skipped } = notingSkips(
    createGiteaDriver(api, checksums, {
      name: 'gitea',
      publicUrl: 'https://gitea.example.com',
      includePrivate: true,
      concurrency: 6,
      mapping: createMapping(config.mapping)
    })
  )
  return { api, driver, skipped, server }
}

const outcome = async (operation: Promise<unknown>) =>
  await operation.catch((error: unknown) => {
    if (!isRegistryError(error)) throw error
    return error.code
  })
const release = (version: string, more: object = {}) => ({ version, ...more })
const tags = (names: string[]) => names.map(tag_name => ({ tag_name }))

/** Expected result of each recording, written by hand from the content of its server. */
const expected: Record<
  string,
  { send: 'repositories' | 'repository' | 'releases' | 'file' | 'ping', as?: string, gives: unknown }
> = {
  'org-repos-page-2': {
    send: 'repositories',
    gives: Array.from({ length: 15 }, (_, at) => ({ name: `filler-${35 + at}`, release_counter: 0 }))
  },
  'org-repos-small-page': {
    send: 'repositories',
    gives: [
      { name: 'aws_prov', topics: ['aws', 'cloud', 'infrastructure'], release_counter: 5 },
      { name: 'upcloud_provider' },
      { name: 'kubernetes_taskserv' },
      { name: 'k3s_taskserv' },
      { name: 'web_cluster', description: 'Web tier: load balancer, app servers, database' }
    ]
  },
  'user-repos-of-an-org': {
    send: 'repositories',
    gives: [{ name: 'aws_prov', owner: { login: 'provisioning', full_name: 'Provisioning team' } }, {
      name: 'upcloud_provider'
    }]
  },
  'org-repos-past-the-end': { send: 'repositories', gives: [] },
  'org-missing': { send: 'repositories', gives: 'service_unavailable' },
  'signin-required-org-repos': { send: 'repositories', gives: 'auth_error' },
  'token-invalid': { send: 'repositories', gives: 'auth_error' },
  'token-lacks-org-scope': { send: 'repositories', gives: 'auth_error' },
  'repos-search': { send: 'repositories', gives: 'service_unavailable' },
  org: { send: 'repositories', gives: 'service_unavailable' },
  repo: {
    send: 'repository',
    as: 'aws_prov',
    gives: { name: 'aws_prov', private: false, mirror: false, has_releases: true }
  },
  'api-unknown-path': { send: 'repository', as: 'aws_prov', gives: 'service_unavailable' },
  'releases-aws': {
    send: 'releases',
    gives: tags(['nightly', '2.0.0-rc.1', '1.2.0', '1.1.0', 'v1.0.0']).map(release => ({
      ...release,
      prerelease: release.tag_name === '2.0.0-rc.1'
    }))
  },
  'releases-aws-as-writer': { send: 'releases', gives: [] },
  'releases-upcloud': { send: 'releases', gives: tags(['v2.1.3']) },
  'releases-kubernetes': { send: 'releases', gives: tags(['1.27.5', '1.27.4', '1.28.0']) },
  'releases-k3s': { send: 'releases', gives: tags(['v1.27.5+k3s1']) },
  'releases-edge': { send: 'releases', gives: tags(['1.1.0', '1.0.0']) },
  'releases-onlyrc': { send: 'releases', gives: tags(['0.1.0-alpha.9', '0.1.0-alpha.10', '0.1.0-alpha.1']) },
  'releases-slash': { send: 'releases', gives: tags(['1.0.1', 'release/1.0.0']) },
  'releases-without-asset': { send: 'releases', gives: [{ tag_name: '0.9.0', assets: [] }] },
  'releases-many-page-2': {
    send: 'releases',
    gives: tags(['0.6.0', '0.5.0', '0.4.0', '0.3.0', '0.2.0', '0.1.0', '0.0.0'])
  },
  'releases-empty-repository': { send: 'releases', gives: [] },
  'releases-of-a-mirror': { send: 'releases', gives: [] },
  'releases-private-with-token': { send: 'releases', gives: tags(['5.0.0']) },
  'signin-required-with-token': { send: 'repositories', gives: [{ name: 'aws_prov' }] },
  'releases-private-anonymous': { send: 'releases', gives: undefined },
  'releases-renamed': { send: 'releases', gives: undefined },
  'releases-unit-off': { send: 'releases', gives: 'auth_error' },
  'signin-required-releases': { send: 'releases', gives: 'auth_error' },
  'token-lacks-scope': { send: 'releases', gives: 'auth_error' },
  asset: { send: 'file', gives: 106 },
  'asset-by-name': { send: 'file', gives: 106 },
  'asset-checksum-file': { send: 'file', gives: 93 },
  'signin-required-asset-with-token': { send: 'file', gives: 106 },
  'asset-missing': { send: 'file', gives: undefined },
  'asset-private-anonymous': { send: 'file', gives: undefined },
  'asset-private-bad-token': { send: 'file', gives: 'auth_error' },
  'signin-required-asset': { send: 'file', gives: 'auth_error' },
  'signin-required-login-page': { send: 'file', gives: 'auth_error' },
  healthz: { send: 'ping', gives: undefined },
  version: { send: 'ping', gives: undefined },
  'settings-api': { send: 'ping', gives: undefined },
  'signin-required-healthz': { send: 'ping', gives: undefined },
  'signin-required-version': { send: 'ping', gives: 'auth_error' },
  'v2-anonymous': { send: 'ping', gives: 'auth_error' }
}
/** Recordings of conditional and partial responses to headers that the registry does not send yet, and of a HEAD. */
const notRequested = [
  'asset-head',
  'asset-not-modified',
  'asset-range',
  'asset-range-past-the-end',
  'asset-range-suffix',
  'asset-range-two',
  'asset-range-with-other-if-range'
]

await t.test('every recording is read with the expected result', async t => {
  t.strictSame(
    [...recordings.keys()].sort(),
    [...Object.keys(expected), ...notRequested].sort(),
    'every recording has ' +
      'an expectation or is listed as unused'
  )
  for (const [name, { send, as = 'x', gives }] of Object.entries(expected)) {
    const { api, driver } = await replay(t, () => name)
    const size = recordings.get(name)?.response.headers['content-length']
    const operation = async () => {
      switch (send) {
        case 'repositories':
          return (await api.repositories(() => {})).found
        case 'repository':
          return await api.repository(as)
        case 'releases':
          return await api.releases(as, () => {}).then(all =>
            all === undefined ? undefined : [...new Map(all.found.map(one => [one.tag_name, one])).values()]
          )
        case 'ping': {
          await api.ping(AbortSignal.timeout(5000))
          return undefined
        }
        case 'file': {
          const file = {
            name: 'x.tar.gz',
            validator: 'x',
            locator: '81b8787c-ba30-4f87-92b9-5fdf20a5ac6e',
            size: name === 'signin-required-login-page' ? 106 : Number(size ?? 106)
          }
          const artifact = await driver.open(file, { signal: AbortSignal.timeout(5000) })
          if (artifact === undefined) return undefined
          let bytes = 0
          for await (const chunk of artifact.stream as AsyncIterable<Buffer>) bytes += chunk.length
          return bytes
        }
      }
    }
    const got = await outcome(operation())
    const label = `${name}: ${recordings.get(name)?.note ?? ''}`
    if (typeof gives === 'object') matchStrictly(t, got, gives, label)
    else t.equal(got, gives, label)
    if (Array.isArray(gives)) t.equal((got as unknown[]).length, gives.length, `${name}: the exact number`)
  }
})

await t.test('the recorded kubernetes_taskserv becomes an extension', async t => {
  const { driver, skipped } = await replay(
    t,
    ({ path }) =>
      path.includes('/attachments/')
        ? 'asset-checksum-file'
        : path.includes('/releases')
          ? 'releases-kubernetes'
          : 'org-repos-small-page'
  )
  const { found } = await driver.list()
  const kubernetes = found.find(({ metadata }) => metadata.name === 'kubernetes')
  matchStrictly(t, kubernetes, {
    metadata: {
      name: 'kubernetes',
      type: 'taskserv',
      description: 'Kubernetes container orchestration platform',
      author: 'Provisioning team',
      repository: 'https://gitea.example.com/provisioning/kubernetes_taskserv',
      tags: ['containers']
    },
    release: release('1.28.0', {
      published_at: /^2026-11-23T05:24:3\dZ$/,
      file: {
        name: 'kubernetes_taskserv.tar.gz',
        size: 106,
        url:
          'https://gitea.example.com/provisioning/kubernetes_taskserv/releases/download/1.28.0/kubernetes_taskserv.tar.gz',
        validator: '81b8787c-ba30-4f87-92b9-5fdf20a5ac6e',
        checksum: 'sha256:66cce5a8a2c4ad459e2e242a0ca2e209791cd4a0ae5e92a0a5f8af182f0b179a'
      }
    })
  })
  t.strictSame(skipped.filter(item => item.includes('kubernetes')), [])
})
