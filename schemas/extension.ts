import { Type, type Static } from '@sinclair/typebox'
import { Ref } from './ref.ts'
import { StringEnum } from './string-enum.ts'

/** The three types of extension, in the order in which lists show them. */
export const extensionTypes = ['provider', 'taskserv', 'cluster'] as const

/** The two kinds of backend, in the order of ownership among instances of one priority. */
export const extensionSources = ['gitea', 'oci'] as const

export const ExtensionType = StringEnum(extensionTypes, {
  $id: 'registry.ExtensionType',
  description: 'Extension type',
  examples: ['taskserv']
})
export type ExtensionType = Static<typeof ExtensionType>

export const ExtensionSource = StringEnum(extensionSources, {
  $id: 'registry.ExtensionSource',
  description: 'Backend source: a Gitea or Forgejo organisation, or an OCI registry',
  examples: ['gitea']
})
export type ExtensionSource = Static<typeof ExtensionSource>

const published_at = Type.String({
  format: 'date-time',
  description:
    'When this version was published: RFC 3339 in UTC, whole seconds. `1970-01-01T00:00:00Z` means that the ' +
      'publisher did not say',
  examples: ['2025-10-06T12:00:00Z']
})
const download_url = Type.Optional(Type.String({
  description: 'Where the file can be had from; absent when the version has no file',
  examples: ['https://gitea.example.com/org/kubernetes_taskserv/releases/download/1.28.0/kubernetes_taskserv.tar.gz']
}))
const checksum = Type.Optional(Type.String({
  description: "The publisher's digest of the file, `algorithm:hex`; absent when none was published",
  examples: ['sha256:66cce5a8a2c4ad459e2e242a0ca2e209791cd4a0ae5e92a0a5f8af182f0b179a']
}))
const size = Type.Optional(Type.Integer({
  minimum: 0,
  description: 'Size of the file in bytes; absent when the version has no file',
  examples: [2048000]
}))

export const ExtensionVersion = Type.Object({
  version: Type.String({ description: 'Version string (semver 2.0.0)', examples: ['1.28.0'] }),
  published_at,
  download_url,
  checksum,
  size
}, {
  $id: 'registry.ExtensionVersion',
  description: 'One version of an extension',
  examples: [{
    version: '1.28.0',
    published_at: '2025-10-06T12:00:00Z',
    download_url:
      'https://gitea.example.com/org/kubernetes_taskserv/releases/download/1.28.0/kubernetes_taskserv.tar.gz',
    checksum: 'sha256:66cce5a8a2c4ad459e2e242a0ca2e209791cd4a0ae5e92a0a5f8af182f0b179a',
    size: 2048000
  }]
})
export type ExtensionVersion = Static<typeof ExtensionVersion>

export const Extension = Type.Object({
  name: Type.String({ description: 'Extension name', examples: ['kubernetes'] }),
  type: Ref(ExtensionType),
  version: Type.String({
    description:
      'Current version (semver 2.0.0): the highest release, or the highest pre-release when nothing else exists. A ' +
        'Gitea release that is marked as a pre-release counts as one',
    examples: ['1.28.0']
  }),
  description: Type.String({
    description: 'Description; empty when there is none',
    examples: ['Kubernetes container orchestration platform']
  }),
  author: Type.Optional(Type.String({ description: 'Author or organisation', examples: ['provisioning-team'] })),
  repository: Type.Optional(Type.String({
    description: 'Source repository URL',
    examples: ['https://gitea.example.com/org/kubernetes_taskserv']
  })),
  source: Ref(ExtensionSource),
  published_at,
  download_url,
  checksum,
  size,
  tags: Type.Optional(Type.Array(Type.String(), { description: 'Tags', examples: [['containers', 'orchestration']] }))
}, {
  $id: 'registry.Extension',
  description: 'An extension at its current version',
  examples: [{
    name: 'kubernetes',
    type: 'taskserv',
    version: '1.28.0',
    description: 'Kubernetes container orchestration platform',
    author: 'provisioning-team',
    repository: 'https://gitea.example.com/org/kubernetes_taskserv',
    source: 'gitea',
    published_at: '2025-10-06T12:00:00Z',
    download_url:
      'https://gitea.example.com/org/kubernetes_taskserv/releases/download/1.28.0/kubernetes_taskserv.tar.gz',
    checksum: 'sha256:66cce5a8a2c4ad459e2e242a0ca2e209791cd4a0ae5e92a0a5f8af182f0b179a',
    size: 2048000,
    tags: ['containers', 'orchestration']
  }]
})
export type Extension = Static<typeof Extension>
