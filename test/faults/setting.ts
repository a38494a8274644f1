import { join } from 'node:path'
import type { Test } from 'tap'
import { createFaultServer, type FaultServer } from '../fakes/fault-server.ts'
import { createGiteaFake, type RepositoryContent } from '../fakes/gitea.ts'
import { writeLayout, type FakeArtifact } from '../fakes/layout.ts'
import { createLoopback, type Loopback, type LoopbackResponse } from '../fakes/loopback.ts'
import { contentOf, createRegistryFake } from '../fakes/registry.ts'
import { sha256 } from '../fakes/gitea/provisioning.ts'
import { names } from './environment.ts'
import type { Grounds } from './faults.ts'
import { content, instance, twinContent, twinVersion, version } from './outcomes.ts'
import { budget, type Source } from './table.ts'

/** Resources that every instance of the matrix shares. */
export interface Setting {
  source: Source
  /** Address of the upstream behind the fault servers. */
  upstream: string
  /** Directory with another copy of the requested extension, and a second extension. */
  twin: string
  /** Server that must not receive any request. */
  elsewhere: Loopback
}

export const organization = 'fleet'
const versions = ['1.0.0', '1.1.0', version]

/** Extensions of the upstream as image layouts; the last one is requested. */
export const artifacts: FakeArtifact[] = [
  { repository: `${organization}/cluster/web`, tag: '1.0.0' },
  { repository: `${organization}/provider/aws`, tag: '1.0.0' },
  { repository: `${organization}/taskserv/k3s`, tag: '1.0.0' },
  ...versions.map(tag => ({
    repository: `${organization}/taskserv/vault`,
    tag,
    layers: [{ content: tag === version ? content : tag, title: 'vault.tar.gz' }]
  }))
]

function repository (name: string, tags: string[]): RepositoryContent {
  const asset = (tag: string) => ({
    name: `${name}.tar.gz`,
    content: name === 'vault_taskserv' && tag === version ? content : `${name} ${tag}`
  })
  return {
    name,
    description: name,
    releases: tags.map(tag => ({
      tag,
      assets: [asset(tag), { name: `${name}.tar.gz.sha256`, content: `${sha256(asset(tag).content)}\n` }]
    }))
  }
}

async function startGitea (t: Test): Promise<string> {
  const gitea = await createGiteaFake({
    owner: { login: organization, kind: 'organization' },
    repositories: [
      repository('web_cluster', ['1.0.0']),
      repository('aws_prov', ['1.0.0']),
      repository('vault_taskserv', versions),
      repository('k3s_taskserv', ['1.0.0'])
    ]
  }, { maxResponseItems: 2 })
  t.teardown(gitea.close)
  return gitea.url
}

async function startRegistry (t: Test): Promise<string> {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(root, artifacts)
  const registry = await createRegistryFake(await contentOf(root))
  t.teardown(registry.close)
  return registry.url
}

/** Creates the shared resources; the upstream is a fake unless its address is given. */
export async function createSetting (t: Test, source: Source, given?: string): Promise<Setting> {
  const upstream = given ?? await (source === 'gitea' ? startGitea(t) : startRegistry(t))
  const twin = join(t.testdir({ twin: {} }), 'twin')
  await writeLayout(twin, [
    { repository: 'taskserv/vault', tag: twinVersion, layers: [{ content: twinContent, title: 'vault.tar.gz' }] },
    { repository: 'provider/own', tag: '1.0.0' }
  ])
  const elsewhere = await createLoopback(() => ({
    status: 200,
    headers: { 'content-type': 'application/json' },
    body: '[]'
  }))
  t.teardown(elsewhere.close)
  return { source, upstream, twin, elsewhere }
}

const next = (target: string) => ({ link: `<${target}>; rel="next"` })
const withBody = (response: LoopbackResponse, value: unknown, headers = {}): LoopbackResponse => {
  const { 'content-length': _, ...rest } = response.headers ?? {}
  return { ...response, headers: { ...rest, ...headers }, body: JSON.stringify(value) }
}
const rowsOf = ({ body }: { body: Buffer }) => JSON.parse(body.toString()) as unknown[]
const pageOf = ({ body }: { body: Buffer }) => JSON.parse(body.toString()) as Record<string, unknown[]>
const listOf = (page: Record<string, unknown[]>): 'tags' | 'repositories' => 'tags' in page ? 'tags' : 'repositories'

const grounds: Record<Source, Omit<Grounds, 'hostname' | 'elsewhere'>> = {
  gitea: {
    listing: /^\/api\/v1\/(?:orgs|users)\/[^/]+\/repos/,
    lists: /^\/api\/v1\/(?:(?:orgs|users)\/[^/]+\/repos|repos\/[^/]+\/[^/]+\/releases)/,
    repository: /^\/api\/v1\/repos\/[^/]+\/vault_taskserv(?:\/|$)/,
    wrap: items => `[${items}]`,
    spoil: response => withBody(response, [null, ...rowsOf(response), { name: 7, tag_name: [] }]),
    firstPage: path => path.replace(/([?&]page=)\d+/, '$11'),
    shrunk: reply => withBody(reply, rowsOf(reply).slice(1), { 'x-total-count': '3' }),
    endless: (path, result) =>
      withBody(result, rowsOf(result), {
        'x-total-count': '100000000',
        link: `<${path.replace(/([?&]page=)\d+/, '$150000000')}>; rel="last"`
      })
  },
  oci: {
    listing: /^\/v2\/_catalog/,
    lists: /^\/v2\/(?:_catalog|.+\/tags\/list)/,
    repository: /^\/v2\/fleet\/taskserv\/vault\/(?:tags|manifests)\//,
    wrap: items => `{"name":"fleet/taskserv/vault","repositories":[${items}],"tags":[${items}]}`,
    spoil: original => {
      const page = pageOf(original)
      return withBody(original, {
        ...page,
        [listOf(page)]: [null, ...page[listOf(page)] ?? [], 7, '../..', { name: 'x' }]
      })
    },
    firstPage: path => `${path.replace(/\?.*/, '')}?n=2`,
    shrunk: () => ({
      status: 404,
      headers: { 'content-type': 'application/json' },
      body: '{"errors":[{"code":"NAME_UNKNOWN","message":"no such page"}]}'
    }),
    endless: (path, original) => {
      const page = pageOf(original)
      const at = Number(/[?&]last=x-(\d+)/.exec(path)?.[1] ?? 0) + 1
      const names = at === 1 ? page[listOf(page)] ?? [] : [`${listOf(page) === 'tags' ? '0.0.' : 'fleet/x-'}${at}`]
      return withBody(original, { ...page, [listOf(page)]: names }, next(`${path.replace(/\?.*/, '')}?n=2&last=x-${at}`))
    }
  }
}

/** Creates a fault server in front of the upstream, and the configuration of a registry that uses it. */
export async function stand (
  { source, upstream, twin, elsewhere }: Setting
): Promise<{ server: FaultServer, config: object, grounds: Grounds }> {
  const server = await createFaultServer(upstream)
  const hostname = `${source}-${server.port}.invalid`
  names.learn(hostname)
  const url = `http://${hostname}:${server.port}`
  const common = { name: instance, priority: 10, timeout_seconds: budget / 2000 }
  const mirror = { name: 'mirror', registry: twin, priority: 200 }
  return {
    server,
    grounds: { ...grounds[source], hostname, elsewhere: elsewhere.url },
    config: {
      server: {
        public_url: 'https://registry.example.com',
        request_budget_seconds: budget / 1000,
        // The fault servers share the event loop, so its delay is not only caused by the registry.
        max_event_loop_delay_seconds: 0
      },
      // Stored files are served without an upstream request, so the store is disabled.
      store: { enabled: false },
      ...source === 'gitea'
        ? { gitea: { ...common, url, organization }, oci: mirror }
        : { oci: [{ ...common, registry: url, namespace: organization }, mirror] }
    }
  }
}
