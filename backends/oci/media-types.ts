/** Media types of manifests that are read (image-spec, manifest.md, and Docker's). */
export const manifestTypes: ReadonlySet<string> = new Set([
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json'
])
/** Media types of indexes that are read (image-spec, image-index.md, and Docker's). */
export const indexTypes: ReadonlySet<string> = new Set([
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json'
])
/** Media types of a container image's config. */
export const imageConfigTypes: ReadonlySet<string> = new Set([
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json'
])

/** Returns a media type in lower case and without parameters, for comparison (RFC 9110, 8.3.1). */
export const baseType = (mediaType: string): string => (mediaType.split(';', 1)[0] ?? '').trim().toLowerCase()

/** Returns whether a media type marks the absence of content; `scratch` was its name in drafts of the specification. */
export const isEmptyType = (mediaType: string): boolean =>
  /^application\/vnd\.oci\.(?:empty|scratch)\.v1\+json$/.test(baseType(mediaType))

/** Returns whether a media type is that of a layer of a container image. */
export const isImageLayerType = (mediaType: string): boolean =>
  /^application\/vnd\.(?:oci\.image\.layer|docker\.image\.rootfs)\./.test(baseType(mediaType))

/** Endings of archives and modules by the end of a media type: `gzip`, `x-gzip`, `vnd.example.v1.tar+gzip`. */
const endings: ReadonlyArray<readonly [last: RegExp, ending: string]> = [
  [/[/+.-](?:gzip|gz|tgz|compressed-tar)$/, '.tar.gz'],
  [/[/+.-](?:zstd|zst)$/, '.tar.zst'],
  [/[/+.-]xz$/, '.tar.xz'],
  [/[/+.-](?:bzip2?|bz2)$/, '.tar.bz2'],
  [/[/+.-]g?tar$/, '.tar'],
  [/[/+.-]zip(?:-compressed)?$/, '.zip'],
  [/[/+.-]wasm$/, '.wasm']
]

/** Endings of texts, for texts without a title. */
const textEndings: ReadonlyArray<readonly [last: RegExp, ending: string]> = [
  [/[/+-]json$/, '.json'],
  [/[/+-]xml$/, '.xml'],
  [/[/+-]ya?ml$/, '.yaml'],
  [/[/+-]toml$/, '.toml'],
  [/[/+-]pdf$/, '.pdf'],
  [/\.prov$/, '.prov'],
  [/^text\/(?:x-)?markdown$/, '.md'],
  [/^text\//, '.txt']
]

const media = /^(?:text|image|audio|video|font)\//
const find = (list: typeof endings, type: string): string | undefined => list.find(([last]) => last.test(type))?.[1]

/**
 * Returns the ending of an archive or a WebAssembly module of this media type; undefined when the media type is of
 * neither.
 */
export function archiveEnding (mediaType: string): string | undefined {
  const type = baseType(mediaType)
  return media.test(type) ? undefined : find(endings, type)
}

/** Returns the ending of a text of this media type; undefined for any other media type. */
export const textEnding = (mediaType: string): string | undefined => find(textEndings, baseType(mediaType))

/** Media types of signatures, attestations, provenance and bills of materials, compressed ones included. */
const statements = new RegExp([
  '[/.](?:spdx|cyclonedx|syft|in-toto|dsse|slsa)(?:[+./-]|$)',
  '[/.]vnd\\.(?:dev\\.cosign|dev\\.sigstore|cncf\\.notary)\\.',
  '\\.prov$',
  '/(?:jose|cose)(?:[+;-]|$)',
  '/(?:pgp-|x-pgp-|pkcs7-|pkix-|x-pem-|x-x509-|timestamp-)'
].join('|'))

/**
 * Returns whether a media type is that of a statement about a file: a signature, an attestation, provenance or a bill
 * of materials.
 */
export const isStatementType = (mediaType: string): boolean => statements.test(baseType(mediaType))

/** Returns whether a media type is of a side kind: a text, a picture or a statement. */
export const isSideType = (mediaType: string): boolean =>
  isStatementType(mediaType) || media.test(baseType(mediaType)) || textEnding(mediaType) !== undefined
