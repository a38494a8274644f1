import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import type { AssetContent, GiteaContent, ReleaseContent, RepositoryContent } from './content.ts'

/** Returns the hexadecimal SHA-256 of the content of a file. */
export function sha256 (content: Buffer | string): string {
  return createHash('sha256').update(content).digest('hex')
}

/** Returns bytes that do not compress, always the same for the same seed. */
function noise (seed: string, length: number): Buffer {
  const blocks: Buffer[] = []
  for (let size = 0; size < length; size += 32) blocks.push(createHash('sha256').update(`${seed} ${size}`).digest())
  return Buffer.concat(blocks, length)
}

function archive (repository: string, tag: string): AssetContent {
  return { name: `${repository}.tar.gz`, content: gzipSync(`${repository} ${tag}\n`) }
}

function checksum (file: AssetContent): AssetContent {
  return { name: `${file.name}.sha256`, content: `${sha256(file.content)}  ${file.name}\n` }
}

function sums (files: AssetContent[]): AssetContent {
  return { name: 'SHA256SUMS', content: files.map(({ name, content }) => `${sha256(content)}  ${name}\n`).join('') }
}

/** Returns a release with its archive and without a digest. */
function plain (repository: string, tag: string, more: Partial<ReleaseContent> = {}): ReleaseContent {
  return { tag, assets: [archive(repository, tag)], ...more }
}

/** Returns a release with its archive and a `.sha256` file. */
function summed (repository: string, tag: string, more: Partial<ReleaseContent> = {}): ReleaseContent {
  const file = archive(repository, tag)
  return { tag, assets: [file, checksum(file)], ...more }
}

function upcloud (): RepositoryContent {
  const name = 'upcloud_provider'
  const files = [archive(name, 'v2.1.3'), {
    name: `${name}.zip`,
    content: Buffer.from('504b0506'.padEnd(44, '0'), 'hex')
  }]
  return {
    name,
    description: 'UpCloud provider for European cloud infrastructure',
    topics: ['cloud', 'eu'],
    releases: [{ tag: 'v2.1.3', assets: [...files, sums(files)] }]
  }
}

const kubernetesName = 'kubernetes_taskserv'
/** File of 256 KiB; generated once, since it is the same in each content. */
const kubernetesFile = gzipSync(noise(kubernetesName, 262144))

/** Returns a repository that was published out of version order; its highest version has a file of 256 KiB. */
function kubernetes (): RepositoryContent {
  const name = kubernetesName
  const big = { name: `${name}.tar.gz`, content: kubernetesFile }
  return {
    name,
    description: 'Kubernetes container orchestration platform',
    topics: ['containers'],
    releases: [{ tag: '1.28.0', assets: [big, checksum(big)] }, plain(name, '1.27.4'), summed(name, '1.27.5')]
  }
}

function edge (): RepositoryContent {
  const name = 'edge_cluster'
  return {
    name,
    description: 'File names at the edge',
    releases: [
      { tag: '1.0.0', assets: [{ ...archive(name, '1.0.0'), name: 'edge cluster (1.0.0).tar.gz' }] },
      { tag: '1.1.0', assets: [archive(name, '1.1.0 one'), archive(name, '1.1.0 two')] }
    ]
  }
}

function many (): RepositoryContent {
  const name = 'many_taskserv'
  const releases = Array.from({ length: 57 }, (_, minor): ReleaseContent => ({ tag: `0.${minor}.0` }))
  releases[0] = plain(name, '0.0.0')
  releases[56] = plain(name, '0.56.0')
  return { name, description: 'More releases than one page', releases }
}

/**
 * Returns the organization `provisioning` of the recordings, as a new object at each call so that a test may change it.
 * It has 66 repositories: one for each special case of a registry, and fillers.
 */
export function provisioningContent (login = 'provisioning'): GiteaContent {
  const fillers = Array.from(
    { length: 50 },
    (_, index): RepositoryContent => ({ name: `filler-${String(index).padStart(2, '0')}`, empty: true })
  )
  const aws = 'aws_prov'
  return {
    owner: { login, full_name: 'Provisioning team', description: 'Infrastructure extensions', kind: 'organization' },
    repositories: [
      {
        name: aws,
        description: 'AWS provider for provisioning infrastructure',
        topics: ['aws', 'cloud', 'infrastructure'],
        releases: [
          summed(aws, 'v1.0.0'),
          summed(aws, '1.1.0'),
          summed(aws, '1.2.0'),
          summed(aws, '2.0.0-rc.1', { prerelease: true }),
          summed(aws, 'nightly'),
          summed(aws, '3.0.0', { draft: true })
        ]
      },
      upcloud(),
      kubernetes(),
      {
        name: 'k3s_taskserv',
        description: 'Lightweight Kubernetes distribution',
        archived: true,
        releases: [summed('k3s_taskserv', 'v1.27.5+k3s1')]
      },
      {
        name: 'web_cluster',
        description: 'Web tier: load balancer, app servers, database',
        releases: [{ tag: '0.9.0' }]
      },
      edge(),
      {
        name: 'onlyrc_prov',
        description: 'Nothing but pre-releases',
        releases: ['0.1.0-alpha.1', '0.1.0-alpha.10', '0.1.0-alpha.9'].map((tag) =>
          plain('onlyrc_prov', tag, { prerelease: true })
        )
      },
      {
        name: 'slash_prov',
        description: 'A tag with a slash',
        releases: [plain('slash_prov', 'release/1.0.0'), plain('slash_prov', '1.0.1')]
      },
      {
        name: 'secret_prov',
        description: 'For its members only',
        private: true,
        releases: [summed('secret_prov', '5.0.0')]
      },
      { name: 'empty_prov', description: 'No commit at all', empty: true },
      { name: 'norelease_taskserv', description: 'Commits but no release' },
      {
        name: 'nounit_taskserv',
        description: 'Releases switched off',
        has_releases: false,
        releases: [plain('nounit_taskserv', '1.0.0')]
      },
      {
        name: 'renamed_taskserv',
        description: 'Had another name',
        renamed_from: 'renamed_old_taskserv',
        releases: [plain('renamed_taskserv', '1.0.0')]
      },
      { name: 'mirrored_taskserv', description: 'Tags without releases', mirror: true },
      many(),
      { name: 'website', description: 'Not an extension', releases: [plain('website', '1.0.0')] },
      ...fillers
    ]
  }
}
