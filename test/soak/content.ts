import { createHash } from 'node:crypto'
import type { ExtensionSource, ExtensionType } from '../../schemas/extension.ts'
import type { GiteaContent } from '../fakes/gitea.ts'
import { manifestType } from '../fakes/layout.ts'
import type { RegistryContent } from '../fakes/registry.ts'

/** Required content of one extension, independent of the state of its upstreams. */
export interface Expected {
  type: ExtensionType
  name: string
  source: ExtensionSource
  description: string
  /** Highest first, each with the digest of its file. */
  versions: Array<{ version: string, sha256: string }>
}

const suffixes = { provider: 'prov', taskserv: 'taskserv', cluster: 'cluster' } as const
const types = Object.keys(suffixes) as ExtensionType[]
const versionsOf = { gitea: ['2.1.0', '2.0.0', '1.9.3'], oci: ['3.0.0', '1.0.0'] }

const sha256 = (bytes: string | Buffer): string => createHash('sha256').update(bytes).digest('hex')
const described = (source: ExtensionSource, name: string): string => `Extension ${name} as ${source} has it`

/** Returns the same file for the same arguments; most are small, and some exceed one buffer of the transfer. */
function fileOf (source: ExtensionSource, name: string, version: string): Buffer {
  const start = `${source} ${name} ${version}\n`
  return Buffer.from(start.repeat(Number(name.slice(1)) % 20 === 0 ? 8000 : 40))
}

/** Returns the content of both upstreams, and the expected catalog: a name in both upstreams belongs to Gitea. */
export function createContent (
  names: number
): { gitea: GiteaContent, registry: RegistryContent, expected: Expected[] } {
  const gitea: GiteaContent = { owner: { login: 'provisioning' }, repositories: [] }
  const registry: RegistryContent = new Map()
  const expected: Expected[] = []
  for (let number = 0; number < names; number++) {
    const type = types[number % types.length] ?? 'provider'
    const name = `n${String(number).padStart(4, '0')}`
    const [inGitea, inRegistry] = [number % 2 === 0, number % 2 === 1 || number % 10 === 0]
    const source = inGitea ? 'gitea' : 'oci'
    expected.push({
      type,
      name,
      source,
      description: described(source, name),
      versions: versionsOf[source].map(version => ({ version, sha256: sha256(fileOf(source, name, version)) }))
    })
    if (inGitea) {
      const repository = `${name}_${suffixes[type]}`
      gitea.repositories.push({
        name: repository,
        description: described('gitea', name),
        releases: versionsOf.gitea.map(version => ({
          tag: `v${version}`,
          assets: [{ name: `${repository}.tar.gz`, content: fileOf('gitea', name, version) }]
        }))
      })
    }
    if (inRegistry) registry.set(`provisioning/${type}/${name}`, createRepository(name))
  }
  return { gitea, registry, expected }
}

function createRepository (name: string) {
  const blobs = new Map<string, Buffer>()
  const put = (mediaType: string, content: string | Buffer) => {
    const bytes = Buffer.from(content)
    const digest = `sha256:${sha256(bytes)}`
    blobs.set(digest, bytes)
    return { mediaType, digest, size: bytes.length }
  }
  const tags = new Map(versionsOf.oci.map(version => [
    version,
    put(
      manifestType,
      JSON.stringify({
        schemaVersion: 2,
        mediaType: manifestType,
        artifactType: 'application/vnd.example',
        config: put('application/vnd.oci.empty.v1+json', '{}'),
        layers: [put('application/vnd.oci.image.layer.v1.tar+gzip', fileOf('oci', name, version))],
        annotations: {
          'org.opencontainers.image.created': '2026-11-23T05:24:36Z',
          'org.opencontainers.image.description': described('oci', name)
        }
      })
    )
  ]))
  return { tags, blobs }
}
