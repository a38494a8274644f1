import { createHash, randomBytes } from 'node:crypto'
import { artifacts } from '../fakes/artifacts.ts'
import { indexType, manifestType, writeLayout, type FakeArtifact } from '../fakes/layout.ts'
import { chart, containerImage, helmChart, orasArtifact, orasDirectory, orasFile, provenance } from '../fakes/pushed.ts'
import type { RegistryContent } from '../fakes/registry.ts'

const annotations = (description: string) => ({
  'org.opencontainers.image.created': '2026-11-23T05:24:36Z',
  'org.opencontainers.image.description': description,
  'org.opencontainers.image.vendor': 'Provisioning team'
})

/** Artifacts as publishers create them, in addition to those of the conformance suite. */
const special: FakeArtifact[] = [
  {
    repository: 'cluster/multi',
    tag: '1.0.0',
    annotations: annotations('From an index'),
    index: { annotations: annotations('From an index') }
  },
  { repository: 'taskservs/containerd', tag: '1.7.0_build.5', annotations: annotations('With build metadata') },
  { repository: 'taskservs/containerd', tag: '1.7.0', annotations: annotations('Without') },
  { repository: 'taskserv/bare', tag: '0.1.0' },
  {
    repository: 'cilium_taskserv',
    tag: 'v1.16.0',
    config: { created: '2026-11-22T10:00:00Z' },
    annotations: { 'org.opencontainers.image.description': 'Its time is in its config' }
  },
  {
    repository: 'clusters/typed',
    tag: '2.0.0',
    config: { kind: 'cluster' },
    configType: 'application/vnd.example.extension.config.v1+json',
    annotations: annotations('With a config of its own type')
  },
  { repository: 'hetzner-provider', tag: '1.4.0', annotations: annotations('Named with a hyphen') },
  { repository: 'taskserv/signed', tag: '1.0.0', annotations: annotations('With a signature') },
  { repository: 'taskserv/signed', tag: `sha256-${'a'.repeat(64)}.sig`, annotations: annotations('A signature') },
  { repository: 'taskserv/signed', tag: 'latest', annotations: annotations('A tag that is not a version') },
  helmChart('taskserv/chart', '1.0.0', [chart('chart 1.0.0')]),
  helmChart('taskserv/chart', '1.1.0', [chart('chart 1.1.0'), provenance('provenance of 1.1.0')]),
  helmChart('taskserv/chart', '1.2.0_build.1', [provenance('provenance of 1.2.0'), chart('chart 1.2.0')]),
  containerImage('taskserv/chart', '2.0.0', ['base', 'application']),
  orasArtifact('provider/directory', '1.0.0', [
    orasDirectory('mydir', 'directory 1.0.0'),
    orasFile('README.md', 'read me')
  ]),
  orasArtifact('provider/directory', '1.1.0', [
    orasFile('README.md', 'read me'),
    orasDirectory('mydir', 'directory 1.1.0')
  ]),
  { repository: 'provider/nightlyonly', tag: 'nightly', annotations: annotations('Never a version') }
]

/** Writes a tree of image layouts with the whole content for a registry, below `namespace`. */
export async function writeContent (root: string, namespace: string): Promise<void> {
  await writeLayout(
    root,
    [...artifacts, ...special].map(artifact => ({ ...artifact, repository: `${namespace}/${artifact.repository}` }))
  )
}

/** Address and credentials for pushes to a registry. */
export interface Pusher {
  url: string
  /** Returns the value of `Authorization` for a push to a repository. */
  authorization?: (repository: string) => Promise<string>
}

/** Pushes manifests and their blobs with plain requests (distribution-spec, "Pushing"). */
export async function push (content: RegistryContent, { url, authorization }: Pusher): Promise<void> {
  for (const [repository, { tags, blobs }] of content) {
    const given: Record<string, string> = authorization === undefined
      ? {}
      : { authorization: await authorization(repository) }
    const send = async (
      method: string,
      path: string,
      body?: Buffer,
      headers: Record<string, string> = {}
    ): Promise<Response> => {
      const response = await fetch(new URL(path, url), {
        method,
        headers: { ...given, ...headers },
        ...(body !== undefined && { body: new Uint8Array(body) })
      })
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
      return response
    }
    const manifests = new Map<string, Buffer>()
    for (const [digest, bytes] of blobs) {
      const type = mediaTypeOf(bytes)
      if (type !== undefined) manifests.set(digest, bytes)
      const { headers } = await send('POST', `/v2/${repository}/blobs/uploads/`)
      const to = new URL(headers.get('location') ?? '', url)
      to.searchParams.set('digest', digest)
      await send('PUT', to.pathname + to.search, bytes, { 'content-type': 'application/octet-stream' })
    }
    // An index is pushed after the manifests that it lists.
    const ordered = [...manifests].sort(([, a], [, b]) =>
      Number(mediaTypeOf(a) === indexType) - Number(mediaTypeOf(b) === indexType)
    )
    for (const [digest, bytes] of ordered) {
      await send('PUT', `/v2/${repository}/manifests/${digest}`, bytes, { 'content-type': mediaTypeOf(bytes) ?? '' })
    }
    for (const [tag, { digest }] of tags) {
      const bytes = manifests.get(digest)
      if (
        bytes === undefined || `sha256:${createHash('sha256').update(bytes).digest('hex')}` !== digest
      ) { throw new Error(`${repository}:${tag} has no manifest`) }
      await send('PUT', `/v2/${repository}/manifests/${tag}`, bytes, { 'content-type': mediaTypeOf(bytes) ?? '' })
    }
  }
}

/** Returns the media type of a manifest or an index; undefined for other content. */
function mediaTypeOf (bytes: Buffer): string | undefined {
  try {
    const { mediaType } = JSON.parse(bytes.toString()) as { mediaType?: string }
    return mediaType === manifestType || mediaType === indexType ? mediaType : undefined
  } catch {
    return undefined
  }
}

/** Creates a public organization with public packages on a Gitea; `username` is the user of the token. */
export async function createGiteaRegistry (
  url: string,
  token: string
): Promise<{ organization: string, username: string }> {
  const call = async (path: string, body?: object): Promise<Record<string, unknown>> => {
    const response = await fetch(new URL(`/api/v1${path}`, url), {
      method: body === undefined ? 'GET' : 'POST',
      headers: { authorization: `token ${token}`, 'content-type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) })
    })
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
    return await response.json() as Record<string, unknown>
  }
  const organization = `registry-${randomBytes(4).toString('hex')}`
  await call('/orgs', { username: organization, visibility: 'public' })
  return { organization, username: String((await call('/user'))['login']) }
}
