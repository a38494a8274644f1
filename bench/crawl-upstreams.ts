import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { createGiteaFake, type ReleaseContent, type RepositoryContent } from '../test/fakes/gitea.ts'
import type { Loopback, LoopbackResponse } from '../test/fakes/loopback.ts'
import {
  createRegistryFake,
  type RegistryContent,
  type RegistryFake,
  type RegistryFakeOptions
} from '../test/fakes/registry.ts'

/*
 * Runs the upstreams of the crawl benchmark in a separate thread. Each response has a fixed delay and is prepared in
 * advance, as a real Gitea creates its pages on many cores.
 */

/** Sizes of the upstreams. */
export interface Sizes {
  /** Number of repositories in the Gitea organisation that are extensions, and of all repositories. */
  extensions: number
  repositories: number
  /** Number of repositories in each OCI registry. */
  artifacts: number
}

export const ociSources = ['oci', 'harbor', 'zot'] as const
export type OciSource = (typeof ociSources)[number]
export type Source = 'gitea' | OciSource
/**
 * Order to the thread: delay each response by these milliseconds, publish a new version of this number of extensions,
 * or count the requests.
 */
export type Order = { order: 'delay', milliseconds: number } | {
  order: 'publish',
  source: Source,
  count: number,
  version: string
} | { order: 'count' }
export interface Observed {
  urls: Record<Source, string>
  requests: Record<Source, number>
}

const suffixes = ['_prov', '_taskserv', '_cluster']
const digestOf = (content: string): string => `sha256:${createHash('sha256').update(content).digest('hex')}`

function release (name: string, tag: string): ReleaseContent {
  const content = `${name} ${tag}`
  return {
    tag,
    assets: [{ name: `${name}.tar.gz`, content }, {
      name: `${name}.tar.gz.sha256`,
      content: `${digestOf(content).slice(7)}  ${name}.tar.gz\n`
    }]
  }
}

/** Returns the repositories of Gitea, with the extensions evenly distributed. */
function repositoriesOf ({ extensions, repositories }: Sizes): RepositoryContent[] {
  return Array.from({ length: repositories }, (_, at) => {
    const number = Math.floor(at * extensions / repositories)
    const isExtension = at === 0 || number !== Math.floor((at - 1) * extensions / repositories)
    const name = isExtension ? `extension-${number}${suffixes[number % suffixes.length]}` : `application-${at}`
    return {
      name,
      description: `Description of ${name}`,
      topics: ['infrastructure'],
      releases: isExtension ? ['1.0.0', '1.1.0', '1.2.0'].map(tag => release(name, tag)) : []
    }
  })
}

const manifestType = 'application/vnd.oci.image.manifest.v1+json'

function push (content: RegistryContent, repository: string, tag: string): void {
  const layer = `${repository} ${tag}`
  const body = JSON.stringify({
    schemaVersion: 2,
    mediaType: manifestType,
    config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf('{}'), size: 2 },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: digestOf(layer), size: layer.length }],
    annotations: {
      'org.opencontainers.image.created': '2026-01-01T00:00:00Z',
      'org.opencontainers.image.description': `Description of ${repository}`
    }
  })
  const known = content.get(repository) ?? { tags: new Map(), blobs: new Map() }
  known.tags.set(tag, { digest: digestOf(body), mediaType: manifestType })
  known.blobs.set(digestOf(body), Buffer.from(body))
  content.set(repository, known)
}

const types = ['provider', 'taskserv', 'cluster']
const sizes = workerData as Sizes
const gitea = await createGiteaFake({ owner: { login: 'org' }, repositories: repositoriesOf(sizes) })
const names = Array.from(
  { length: sizes.artifacts },
  (_, number) => `org/${types[number % types.length]}/extension-${number}`
)

/** Starts a registry of a kind with all artifacts. */
async function startRegistry (options: RegistryFakeOptions) {
  const content: RegistryContent = new Map()
  for (const name of names) for (const tag of ['1.0.0', '1.1.0', '1.2.0']) push(content, name, tag)
  return await createRegistryFake(content, options)
}
const registries: Record<OciSource, RegistryFake> = {
  oci: await startRegistry({}),
  harbor: await startRegistry({ flavour: 'harbor', auth: 'anonymous' }),
  zot: await startRegistry({ flavour: 'zot', search: true })
}
const upstreams: Record<Source, Loopback> = { gitea, ...registries }

/** Prepared responses of Gitea by path. */
const prepared = new Map<string, LoopbackResponse>()
let milliseconds = 0
for (const upstream of Object.values(upstreams)) {
  upstream.fault = async ({ path }) => {
    const response = prepared.get(path)
    if (milliseconds > 0) await delay(milliseconds)
    return response
  }
}

async function prepare (path: string): Promise<void> {
  const response = await fetch(gitea.url + path)
  const kept = [...response.headers].filter(([name]) => ['content-type', 'link', 'x-total-count'].includes(name))
  prepared.set(path, {
    status: response.status,
    headers: Object.fromEntries(kept),
    body: Buffer.from(await response.arrayBuffer())
  })
}

/** Prepares the responses for the changed repositories, and all pages of the list. */
async function prepareAll (changed: ReadonlyArray<(typeof gitea.repositories)[number]>): Promise<void> {
  const pages = Array.from(
    { length: Math.ceil(gitea.repositories.length / 50) },
    (_, page) => `/api/v1/orgs/org/repos?limit=50&page=${page + 1}`
  )
  const files = changed.flatMap(({ releases }) =>
    releases.at(-1)?.assets.filter(({ name }) => name.endsWith('.sha256')) ?? []
  )
  const paths = [
    ...pages,
    ...changed.map(({ name }) => `/api/v1/repos/org/${name}/releases?draft=false&limit=50&page=1`),
    ...files.map(({ uuid }) => `/attachments/${uuid}`)
  ]
  for (const path of paths) prepared.delete(path)
  for (const path of paths) await prepare(path)
}

async function publish (source: Source, count: number, version: string): Promise<void> {
  if (source !== 'gitea') {
    for (const name of names.slice(0, count)) push(registries[source].content, name, version)
    return
  }
  const changed = gitea.repositories.filter(({ releases }) => releases.length > 0).slice(0, count)
  for (const { name } of changed) gitea.publish(name, release(name, version))
  const before = milliseconds
  milliseconds = 0
  await prepareAll(changed)
  milliseconds = before
}
await prepareAll(gitea.repositories.filter(({ releases }) => releases.length > 0))

/** Returns a value for each upstream. */
const ofEach = <T>(read: (upstream: Loopback) => T): Record<Source, T> => ({
  gitea: read(gitea),
  oci: read(registries.oci),
  harbor: read(registries.harbor),
  zot: read(registries.zot)
})

/** Returns the addresses and the numbers of requests since the last call. */
function observed (): Observed {
  const requests = ofEach(upstream => upstream.requests.length)
  for (const upstream of Object.values(upstreams)) upstream.requests.length = 0
  return { urls: ofEach(({ url }) => url), requests }
}

parentPort?.on('message', (order: Order) => {
  const done = async (): Promise<void> => {
    if (order.order === 'delay') milliseconds = order.milliseconds
    if (order.order === 'publish') await publish(order.source, order.count, order.version)
    parentPort?.postMessage(observed())
  }
  void done()
})
