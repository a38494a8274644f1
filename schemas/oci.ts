import { Type, type Static } from '@sinclair/typebox'

/**
 * Digest of content (image-spec, descriptor.md): `algorithm:encoded`. Registered algorithms must have their exact form.
 * Others match the general grammar, which has no separator and no `..`; a valid digest can therefore be part of a path.
 */
export const Digest = Type.String({
  maxLength: 255,
  pattern:
    '^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}|(?!sha256:|sha512:)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+)$',
  description: 'Digest of content, `algorithm:encoded`'
})

/** Annotations are checked separately when they are read, so that an invalid one does not affect the others. */
const annotations = Type.Optional(
  Type.Unknown({ description: 'Strings by key, if the document conforms to the specification' })
)
const mediaType = Type.Optional(
  Type.Union([Type.String(), Type.Null()], {
    description: 'Declared kind of the document; absent, null or empty if the publisher did not set it'
  })
)

/** A reference to content, with the digest and size that verify it (image-spec, descriptor.md). */
export const Descriptor = Type.Object({
  mediaType: Type.String({ description: 'Kind of the content' }),
  digest: Digest,
  size: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'Size of the content in bytes' }),
  annotations,
  platform: Type.Optional(Type.Unknown({ description: 'Platform of an image; `unknown` marks an attestation' })),
  artifactType: Type.Optional(Type.Unknown({ description: 'Kind of the artifact of a manifest' })),
  urls: Type.Optional(Type.Unknown({ description: 'Other addresses of the content, which are never read' }))
}, { description: 'An OCI descriptor' })
export type Descriptor = Static<typeof Descriptor>

/** An image manifest, of OCI or of Docker (image-spec, manifest.md). */
export const ImageManifest = Type.Object({
  mediaType,
  artifactType: Type.Optional(
    Type.Unknown({ description: 'Kind of the artifact; the media type of its config if unset' })
  ),
  config: Type.Optional(Type.Unknown({ description: 'A descriptor; an invalid one is ignored' })),
  layers: Type.Array(Descriptor, {
    description: 'Descriptors, which must all be valid: if one was skipped, another could be taken for the only file'
  }),
  annotations
}, { description: 'An OCI image manifest' })
export type ImageManifest = Static<typeof ImageManifest>

/**
 * An index, or a manifest list of Docker (image-spec, image-index.md). Each descriptor is checked separately, so that
 * an invalid one does not affect the others.
 */
export const ImageIndex = Type.Object({
  mediaType,
  manifests: Type.Array(Type.Unknown(), { description: 'Descriptors' }),
  annotations
}, { description: 'An OCI image index' })
export type ImageIndex = Static<typeof ImageIndex>

/** The config of a container image, reduced to the time of its creation (image-spec, config.md). */
export const ImageConfig = Type.Object({
  created: Type.String({ description: 'Time at which the image was created, RFC 3339' })
}, { description: 'An OCI image config' })
export type ImageConfig = Static<typeof ImageConfig>

/** The file `oci-layout`, which marks a directory as an image layout (image-spec, image-layout.md). */
export const LayoutMarker = Type.Object({
  imageLayoutVersion: Type.String({ pattern: '^1\\.', description: 'Version of the layout' })
}, { description: 'The marker of an OCI image layout' })
export type LayoutMarker = Static<typeof LayoutMarker>

const part = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*'
const repositoryName = new RegExp(`^${part}(?:/${part})*$`)

/**
 * Returns whether a registry can have a repository of this name (distribution-spec, "Pulling manifests"). Clients limit
 * a name to 255 characters.
 */
export const isRepositoryName = (name: unknown): name is string =>
  typeof name === 'string' && name.length <= 255 && repositoryName.test(name)

/** A page of the tags of a repository (distribution-spec, "Listing Tags"). Some servers send null for an empty list. */
export const TagList = Type.Object({
  name: Type.Optional(
    Type.Unknown({ description: 'Name of the repository; a body with neither name nor tags is not a list of tags' })
  ),
  tags: Type.Optional(
    Type.Union([Type.Array(Type.Unknown()), Type.Null()], {
      description: 'Names of tags; invalid ones are skipped'
    })
  )
}, { description: 'Tags of a repository' })
export type TagList = Static<typeof TagList>

/** A page of `_catalog`, from the API of Docker. */
export const RepositoryList = Type.Object({
  repositories: Type.Union([Type.Array(Type.Unknown()), Type.Null()], {
    description: 'Full names; invalid ones are skipped'
  })
}, { description: 'Repositories of a registry' })
export type RepositoryList = Static<typeof RepositoryList>

/** A page of the repositories of a project, from the API of Harbor. */
export const HarborRepositories = Type.Array(Type.Unknown(), {
  description: 'Objects with a `name`, which begins with the project'
})
export type HarborRepositories = Static<typeof HarborRepositories>

/** A text that is kept in memory for each repository. A longer one is malformed. */
const remembered = (description: string) => Type.String({ maxLength: 1024, description })

/** A repository of a project, reduced to the fields that change with its artifacts. */
export const HarborRepository = Type.Object({
  name: Type.String({ description: 'Full name, which begins with the project' }),
  id: Type.Optional(Type.Integer({ description: 'Another one after the repository was deleted and created again' })),
  artifact_count: Type.Integer({ description: 'Number of artifacts, also of those without a tag' }),
  pull_count: Type.Optional(Type.Integer({ description: 'Number of pulls; absent if zero' })),
  update_time: Type.Optional(remembered('Time of the last update, which a pull is too'))
}, { description: 'A repository of Harbor' })
export type HarborRepository = Static<typeof HarborRepository>

/** Extensions of a registry (distribution-spec, "Extensions"). */
export const ExtensionDiscovery = Type.Object({
  extensions: Type.Union([
    Type.Array(Type.Object({
      endpoints: Type.Optional(Type.Union([Type.Array(Type.Unknown(), { description: 'Paths' }), Type.Null()]))
    })),
    Type.Null()
  ])
}, { description: 'Extensions that a registry offers' })
export type ExtensionDiscovery = Static<typeof ExtensionDiscovery>

const nullable = (description: string) => Type.Optional(Type.Union([remembered(description), Type.Null()]))

/** A repository of Zot's search, reduced to the fields that change with its tags. */
export const ZotRepository = Type.Object({
  Name: Type.String({ description: 'Full name' }),
  LastUpdated: nullable('Time at which the newest image was created, or the last tag was set; the later one'),
  Size: nullable('Bytes of all content that tags lead to'),
  NewestImage: Type.Optional(Type.Union([
    Type.Object({ Tag: nullable('Name of the tag'), Digest: nullable('Digest of its manifest or index') }),
    Type.Null()
  ]))
}, { description: 'A repository of Zot with its newest image' })
export type ZotRepository = Static<typeof ZotRepository>

/** A page of the repositories of Zot's search extension. */
export const ZotRepositoryPage = Type.Object({
  data: Type.Object({
    RepoListWithNewestImage: Type.Object({
      Page: Type.Object({ TotalCount: Type.Integer({ minimum: 0, description: 'Number of repositories' }) }),
      Results: Type.Union([Type.Array(Type.Unknown(), { description: 'Repositories' }), Type.Null()])
    })
  })
}, { description: 'Repositories of Zot' })
export type ZotRepositoryPage = Static<typeof ZotRepositoryPage>

/** Response of a token server (distribution, token.md); either of the two fields contains the token. */
export const TokenResponse = Type.Object({
  token: Type.Optional(Type.String()),
  access_token: Type.Optional(Type.String()),
  expires_in: Type.Optional(Type.Unknown({ description: 'Lifetime in seconds; an invalid value is ignored' }))
}, { description: 'A token' })
export type TokenResponse = Static<typeof TokenResponse>

/** An entry of `auths` in Docker's `config.json`. */
export const DockerAuth = Type.Object({
  auth: Type.Optional(
    Type.String({ description: 'Base64 of `user:password`; has priority over `username` and `password`' })
  ),
  username: Type.Optional(Type.String()),
  password: Type.Optional(Type.String()),
  registrytoken: Type.Optional(Type.String({ description: 'A bearer token that is sent unchanged' })),
  identitytoken: Type.Optional(Type.String({ description: 'Token of a kind of login that is not supported' }))
}, { description: 'Credentials for one registry' })
export type DockerAuth = Static<typeof DockerAuth>

/** Docker's `config.json`, reduced to the keys of credentials. */
export const DockerConfig = Type.Object({
  auths: Type.Optional(Type.Record(Type.String(), DockerAuth)),
  credsStore: Type.Optional(Type.Unknown()),
  credHelpers: Type.Optional(Type.Unknown())
}, { description: "Docker's configuration file" })
export type DockerConfig = Static<typeof DockerConfig>
