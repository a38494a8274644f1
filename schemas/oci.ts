import { Type, type Static } from '@sinclair/typebox'

/**
 * Digest of content (image-spec, descriptor.md): `algorithm:encoded`. The registered algorithms have their exact form,
 * others pass by the general grammar, which holds no separator and no `..`: a digest that fits may stand in a path.
 */
export const Digest = Type.String({
  maxLength: 255,
  pattern: '^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}|(?!sha256:|sha512:)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+)$',
  description: 'Digest of content, `algorithm:encoded`'
})

/** Annotations are checked one by one where they are read: one of a wrong type costs itself only. */
const annotations = Type.Optional(Type.Unknown({ description: 'Strings by key, if the publisher kept to the specification' }))
const mediaType = Type.Optional(Type.String({ description: 'What the document says that it is' }))

/** Where content is and how it is verified (image-spec, descriptor.md). */
export const Descriptor = Type.Object({
  mediaType: Type.String({ description: 'Kind of the content' }),
  digest: Digest,
  size: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'Bytes of the content' }),
  annotations,
  platform: Type.Optional(Type.Unknown({ description: 'What an image runs on; `unknown` marks an attestation' }))
}, { description: 'An OCI descriptor' })
export type Descriptor = Static<typeof Descriptor>

/** An image manifest, also of Docker's kind (image-spec, manifest.md). */
export const ImageManifest = Type.Object({
  mediaType,
  config: Type.Optional(Type.Unknown({ description: 'A descriptor; a bad one costs only what the config would tell' })),
  layers: Type.Array(Descriptor, { description: 'All good or none: with one left out, another would be taken for the only one' }),
  annotations
}, { description: 'An OCI image manifest' })
export type ImageManifest = Static<typeof ImageManifest>

/** An index, or Docker's manifest list (image-spec, image-index.md). Its descriptors are checked one by one: a bad one costs only itself. */
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
