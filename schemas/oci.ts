import { Type, type Static } from '@sinclair/typebox'

/**
 * Digest of content (image-spec, descriptor.md): `algorithm:encoded`. The registered algorithms have their exact form,
 * others pass by the general grammar, which holds no separator and no `..`: a digest that fits may stand in a path.
 */
export const Digest = Type.String({
  maxLength: 255,
  pattern:
    '^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}|(?!sha256:|sha512:)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+)$',
  description: 'Digest of content, `algorithm:encoded`'
})

/** Annotations are checked one by one where they are read: one of a wrong type costs itself only. */
const annotations = Type.Optional(
  Type.Unknown({ description: 'Strings by key, if the publisher kept to the specification' })
)
const mediaType = Type.Optional(
  Type.Union([Type.String(), Type.Null()], {
    description: 'Kind of the document, by its own word; absent, null or empty where the publisher left it out'
  })
)

/** Where content is and how it is verified (image-spec, descriptor.md). */
export const Descriptor = Type.Object({
  mediaType: Type.String({ description: 'Kind of the content' }),
  digest: Digest,
  size: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'Bytes of the content' }),
  annotations,
  platform: Type.Optional(Type.Unknown({ description: 'What an image runs on; `unknown` marks an attestation' })),
  artifactType: Type.Optional(Type.Unknown({ description: 'Kind of the artifact behind a manifest' })),
  urls: Type.Optional(Type.Unknown({ description: 'Other places of the content, which are never read' }))
}, { description: 'An OCI descriptor' })
export type Descriptor = Static<typeof Descriptor>

/** An image manifest, also of Docker's kind (image-spec, manifest.md). */
export const ImageManifest = Type.Object({
  mediaType,
  artifactType: Type.Optional(Type.Unknown({ description: 'Kind of the artifact; that of its config if unset' })),
  config: Type.Optional(Type.Unknown({ description: 'A descriptor; a bad one costs only what the config would tell' })),
  layers: Type.Array(Descriptor, {
    description: 'All good or none: with one left out, another would be taken for the only one'
  }),
  annotations
}, { description: 'An OCI image manifest' })
export type ImageManifest = Static<typeof ImageManifest>

/**
 * An index, or Docker's manifest list (image-spec, image-index.md). Its descriptors are checked one by one: a bad one
 * costs only itself.
 */
export const ImageIndex = Type.Object({
  mediaType,
  manifests: Type.Array(Type.Unknown(), { description: 'Descriptors' }),
  annotations
}, { description: 'An OCI image index' })
export type ImageIndex = Static<typeof ImageIndex>

/** The config of a container image, as far as it tells a time (image-spec, config.md). */
export const ImageConfig = Type.Object({
  created: Type.String({ description: 'When the image was made, RFC 3339' })
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
 * Whether a registry can have a repository of this name (distribution-spec, "Pulling manifests"); 255 is what clients
 * can take.
 */
export const isRepositoryName = (name: unknown): name is string =>
  typeof name === 'string' && name.length <= 255 && repositoryName.test(name)

/** A page of a repository's tags (distribution-spec, "Listing Tags"). Some servers say null for none. */
export const TagList = Type.Object({
  name: Type.Optional(Type.Unknown({ description: 'The repository: what has neither it nor tags is no list of tags' })),
  tags: Type.Optional(
    Type.Union([Type.Array(Type.Unknown()), Type.Null()], {
      description: 'Names of tags; one of a wrong form costs only itself'
    })
  )
}, { description: 'Tags of a repository' })
export type TagList = Static<typeof TagList>

/** A page of `_catalog`, of Docker's own API. */
export const RepositoryList = Type.Object({
  repositories: Type.Union([Type.Array(Type.Unknown()), Type.Null()], {
    description: 'Full names; one of a wrong form costs only itself'
  })
}, { description: 'Repositories of a registry' })
export type RepositoryList = Static<typeof RepositoryList>

/** A page of Harbor's own listing of a project. */
export const HarborRepositories = Type.Array(Type.Unknown(), {
  description: 'Objects with a `name`, which begins with the project'
})
export type HarborRepositories = Static<typeof HarborRepositories>

/** What a token server says (distribution, token.md); either field has the token. */
export const TokenResponse = Type.Object({
  token: Type.Optional(Type.String()),
  access_token: Type.Optional(Type.String()),
  expires_in: Type.Optional(Type.Unknown({ description: 'Seconds; a wrong one is none' }))
}, { description: 'A token' })
export type TokenResponse = Static<typeof TokenResponse>

/** One entry of `auths` in Docker's `config.json`. */
export const DockerAuth = Type.Object({
  auth: Type.Optional(Type.String({ description: 'Base64 of `user:password`; wins over the two fields' })),
  username: Type.Optional(Type.String()),
  password: Type.Optional(Type.String()),
  registrytoken: Type.Optional(Type.String({ description: 'A ready bearer token' })),
  identitytoken: Type.Optional(Type.String({ description: 'Of a kind of login that is not supported' }))
}, { description: 'Credentials for one registry' })
export type DockerAuth = Static<typeof DockerAuth>

/** Docker's `config.json`, as far as it holds credentials. */
export const DockerConfig = Type.Object({
  auths: Type.Optional(Type.Record(Type.String(), DockerAuth)),
  credsStore: Type.Optional(Type.Unknown()),
  credHelpers: Type.Optional(Type.Unknown())
}, { description: "Docker's configuration file" })
export type DockerConfig = Static<typeof DockerConfig>
