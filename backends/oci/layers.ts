import type { Descriptor, ImageManifest } from '../../schemas/oci.ts'
import { isArchive, safeFileName } from '../driver/file-name.ts'
import { toDescriptor } from './content.ts'
import {
  archiveEnding,
  baseType,
  imageConfigTypes,
  isEmptyType,
  isImageLayerType,
  isSideType,
  isStatementType,
  textEnding
} from './media-types.ts'

const titleAnnotation = 'org.opencontainers.image.title'
/** Annotation that ORAS sets on a directory, which it packs. The title is then that of the directory. */
const unpackAnnotation = 'io.deis.oras.content.unpack'

/** Names of files that accompany an archive: texts, pictures, checksums, keys, signatures, bills of materials. */
const sideName = new RegExp(
  [
    '\\.(?:md|markdown|rst|adoc|txt|html?|pdf|jsonl?|ya?ml|toml|xml|png|svg|jpe?g|gif)$',
    '\\.(?:sha\\d+(?:sum)?|md5(?:sum)?|digest)$',
    '\\.(?:sig|asc|minisig|pem|crt|cert|cer|pub|prov|att|sigstore|intoto|sbom|spdx|cdx)$',
    '^(?:sha\\d+sums?|md5sums?|checksums?)$',
    '^(?:readme|copying|notice|changelog|authors|unlicense)$',
    '^licen[cs]e(?:[-_](?:mit|apache|bsd|gpl|lgpl|mpl|isc)[a-z0-9._-]*)?$'
  ].join('|'),
  'i'
)

function annotationOf ({ annotations }: Descriptor, key: string): string | undefined {
  const value = typeof annotations === 'object' && annotations !== null
    ? (annotations as Record<string, unknown>)[key]
    : undefined
  return typeof value === 'string' ? value : undefined
}

/** Returns the publisher's name of a layer, as it was read. */
const titleOf = (layer: Descriptor): string | undefined => annotationOf(layer, titleAnnotation)
const isDirectory = (layer: Descriptor): boolean => annotationOf(layer, unpackAnnotation)?.toLowerCase() === 'true'

/** Returns whether a name is that of an archive or of a WebAssembly module. */
const isFileName = (name: string): boolean => isArchive(name) || /.\.wasm$/i.test(name)

/**
 * Returns whether a layer is an archive, a side layer or of an unknown kind. Statements are recognised by media type
 * only, because their title is often that of their subject. For other layers the title comes first: without an explicit
 * type ORAS uses that of a tar for every file.
 */
function kindOf (layer: Descriptor): 'archive' | 'side' | 'other' {
  const { mediaType } = layer
  if (isStatementType(mediaType)) return 'side'
  const packed = archiveEnding(mediaType) !== undefined
  const title = titleOf(layer) ?? ''
  if (isFileName(title) || (packed && isDirectory(layer))) return 'archive'
  if (sideName.test(title.slice(title.lastIndexOf('/') + 1))) return 'side'
  if (packed) return 'archive'
  return isSideType(mediaType) ? 'side' : 'other'
}

/** Returns whether a layer's content may be stored outside of the registry. */
const isForeign = ({ urls, mediaType }: Descriptor): boolean =>
  (Array.isArray(urls) && urls.length > 0) || /\.(?:nondistributable|foreign)\./.test(baseType(mediaType))

/**
 * Returns whether layers are parts of a container image. The manifest's kind is its `artifactType`, else its config's
 * media type (image-spec, manifest.md). It is an image if that is an image config, each layer is an image layer, and no
 * layer has a title.
 */
function isContainerImage ({ artifactType, config }: ImageManifest, layers: readonly Descriptor[]): boolean {
  const type = typeof artifactType === 'string' && artifactType !== '' ? artifactType : toDescriptor(config)?.mediaType
  return type !== undefined && imageConfigTypes.has(baseType(type)) &&
    layers.every(layer => isImageLayerType(layer.mediaType) && titleOf(layer) === undefined)
}

/** The file of an artifact among its layers. */
export interface ChosenLayer {
  /** Absent when the artifact has no content. */
  file?: Descriptor
  /** Whether the file is of a side kind: the only layer is a signature, a text or the like. */
  side: boolean
  /** Layers that could have been the file as well. */
  others: readonly Descriptor[]
}

/**
 * Chooses the layer that is the artifact's file. A single layer is the file, independently of its kind. Of several
 * layers, side layers are not used. The file is then the only layer left, else the first archive by title or media
 * type; foreign layers come last. Returns undefined for a container image of several layers, and when no layer is an
 * archive.
 */
export function chooseLayer (manifest: ImageManifest): ChosenLayer | undefined {
  const digests = new Set<string>()
  const content = manifest.layers.filter(({ mediaType, digest }) =>
    !isEmptyType(mediaType) && !digests.has(digest) && digests.add(digest)
  )
  const [only, second] = content
  if (only === undefined) return { side: false, others: [] }
  if (second === undefined) return { file: only, side: kindOf(only) === 'side', others: [] }
  const files = content.filter(layer => kindOf(layer) !== 'side')
  if (files.length > 1 && isContainerImage(manifest, files)) return undefined
  const archives = files.filter(layer => kindOf(layer) === 'archive')
  const file = files.length === 1 ? files[0] : archives.find(layer => !isForeign(layer)) ?? archives[0]
  return file === undefined ? undefined : { file, side: false, others: files.filter(layer => layer !== file) }
}

/** Returns the name of a layer in a report: its title as a safe base name, else its digest. */
export const layerName = (layer: Descriptor): string => safeFileName(titleOf(layer) ?? '') ?? layer.digest

/** Returns whether a name has an ending. A part of a version, as in `aws-1.2`, is not an ending. */
const hasEnding = (name: string, version: string): boolean =>
  /.\.[a-z][a-z0-9]{0,9}$/i.test(name) && !name.endsWith(version)

/**
 * Returns the file name of a version: its layer's title as a safe base name, else `{name}-{version}`. A title without
 * ending, and that of a directory, gets the ending of an archive of the layer's media type. Without a title it is
 * `.tar.gz` where the media type is not known.
 */
export function fileName (layer: Descriptor, { name, version }: { name: string, version: string }): string {
  const archive = archiveEnding(layer.mediaType)
  const title = safeFileName((titleOf(layer) ?? '').replace(/[/\\]+$/, ''))
  if (title === undefined) return `${name}-${version}${archive ?? textEnding(layer.mediaType) ?? '.tar.gz'}`
  if (archive === undefined || isFileName(title) || (hasEnding(title, version) && !isDirectory(layer))) return title
  return safeFileName(`${title.replace(/\.+$/, '')}${archive}`) ?? title
}
