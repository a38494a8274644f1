import { Type, type Static } from '@sinclair/typebox'
import { Ref } from './ref.ts'
import { StringEnum } from './string-enum.ts'

/** Types of extensions, in the order of lists. */
export const extensionTypes = ['provider', 'taskserv', 'cluster'] as const

/** Kinds of backends, in the order of ownership among instances of the same priority. */
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
    'Time at which this version was published: RFC 3339 in UTC, whole seconds. `1970-01-01T00:00:00Z` means that ' +
      'the time is not known',
  examples: ['2025-10-06T12:00:00Z']
})
const download_url = Type.Optional(Type.String({
  description: 'Address of the file; absent if the version has no file, or its file has no public address',
  examples: ['https://gitea.example.com/org/kubernetes_taskserv/releases/download/1.28.0/kubernetes_taskserv.tar.gz']
}))
const checksum = Type.Optional(Type.String({
  description: "The publisher's digest of the file, `algorithm:hex`; absent if the publisher gives no digest",
  examples: ['sha256:66cce5a8a2c4ad459e2e242a0ca2e209791cd4a0ae5e92a0a5f8af182f0b179a']
}))
const size = Type.Optional(Type.Integer({
  minimum: 0,
  description: 'Size of the file in bytes; absent if the version has no file',
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
      'Current version (semver 2.0.0): the highest release, or the highest pre-release if there are only ' +
        'pre-releases. A Gitea release that is marked as a pre-release counts as a pre-release',
    examples: ['1.28.0']
  }),
  description: Type.String({
    description: 'Description; may be empty',
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
