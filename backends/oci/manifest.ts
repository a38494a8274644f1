import { Value } from '@sinclair/typebox/value'
import { parseJson } from '../../plugins/json.ts'
import { ImageIndex, ImageManifest, type Descriptor } from '../../schemas/oci.ts'
import { isArchive, safeFileName } from '../archive.ts'
import type { SkipReason } from '../backend.ts'
import { toDescriptor } from './content.ts'
import { ContentError, type Manifest } from './transport.ts'

const manifestTypes = new Set(['application/vnd.oci.image.manifest.v1+json', 'application/vnd.docker.distribution.manifest.v2+json'])
const indexTypes = new Set(['application/vnd.oci.image.index.v1+json', 'application/vnd.docker.distribution.manifest.list.v2+json'])
const emptyType = 'application/vnd.oci.empty.v1+json'
const titleAnnotation = 'org.opencontainers.image.title'

/** Most manifests that are read to find the file behind one tag, however indexes are nested. */
const maxChildren = 16

/** A manifest or an index; undefined is of a kind that is not known here. */
export type Document = { kind: 'manifest', manifest: ImageManifest } | { kind: 'index', index: ImageIndex } | undefined

/**
 * Parses a manifest or an index. Its own `mediaType` says which it is, else the transport's, else its form.
 * Throws a {@link ContentError} when it is not JSON, not what it says that it is, or both at once.
 */
export function parseDocument ({ bytes, mediaType: outer }: Manifest): Document {
  let body: unknown
  try {
    body = parseJson(bytes)
  } catch (cause) {
    throw new ContentError('The manifest is not JSON', { cause })
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw new ContentError('The manifest is no object')
  // One document must not be read in two ways (CVE-2021-41190).
  if ('manifests' in body && 'layers' in body) throw new ContentError('The manifest is also an index')
  const own = 'mediaType' in body && typeof body.mediaType === 'string' ? body.mediaType : undefined
  const mediaType = own ?? outer?.split(';', 1)[0]?.trim() ?? ('manifests' in body ? 'application/vnd.oci.image.index.v1+json' : 'application/vnd.oci.image.manifest.v1+json')
  if (indexTypes.has(mediaType)) {
    if (!Value.Check(ImageIndex, body)) throw new ContentError('The index is malformed')
    return { kind: 'index', index: body }
  }
  if (!manifestTypes.has(mediaType)) return undefined
  if (!Value.Check(ImageManifest, body)) throw new ContentError('The manifest is malformed')
  return { kind: 'manifest', manifest: body }
}

/** The publisher's name of a layer. */
function titleOf ({ annotations }: Descriptor): string | undefined {
  const title = typeof annotations === 'object' && annotations !== null ? (annotations as Record<string, unknown>)[titleAnnotation] : undefined
  return typeof title === 'string' ? title : undefined
}

/**
 * The layer that is the artifact's file: the only one, else the first whose title is that of an archive. `file` is absent
 * when there is no content; undefined when it is a container image or the like.
 */
export function chooseLayer ({ layers }: ImageManifest): { file?: Descriptor } | undefined {
  const content = layers.filter(layer => layer.mediaType !== emptyType)
  const [first] = content
  if (first === undefined) return {}
  const file = content.length === 1 ? first : content.find(layer => isArchive(titleOf(layer) ?? ''))
  return file === undefined ? undefined : { file }
}

/** An artifact behind a tag. */
export interface Chosen {
  /** Of the manifest, then of the indexes that led to it; as they were read. */
  annotations: unknown[]
  config: Descriptor | undefined
  /** Absent when the version has no file. */
  file?: Descriptor
}

/** Attestations stand in an index beside what they are about, and look like artifacts of one file. */
function isAttestation ({ annotations, platform }: Descriptor): boolean {
  const has = (value: unknown, key: string, wanted?: string) =>
    typeof value === 'object' && value !== null && key in value && (wanted === undefined || (value as Record<string, unknown>)[key] === wanted)
  return has(platform, 'os', 'unknown') || has(annotations, 'vnd.docker.reference.type')
}

/**
 * Chooses the artifact behind a tag's manifest or index. In an index the first usable child counts, one with a file before
 * one without; children that are missing, malformed or of unknown kinds are passed over. `fetch` reads a child.
 * The reason when there is no artifact; throws a {@link ContentError} when the document itself is malformed.
 */
export async function chooseArtifact (root: Manifest, fetch: (child: Descriptor) => Promise<Manifest | undefined>): Promise<Chosen | SkipReason> {
  let left = maxChildren

  async function child (descriptor: Descriptor, annotations: unknown[]): Promise<Chosen | SkipReason> {
    try {
      const manifest = await fetch(descriptor)
      return manifest === undefined ? 'missing_content' : await choose(manifest, annotations)
    } catch (error) {
      if (error instanceof ContentError) return 'malformed'
      throw error
    }
  }

  async function choose (manifest: Manifest, outer: unknown[]): Promise<Chosen | SkipReason> {
    const document = parseDocument(manifest)
    if (document === undefined) return 'not_an_artifact'
    if (document.kind === 'manifest') {
      const { annotations, config } = document.manifest
      const layer = chooseLayer(document.manifest)
      return layer === undefined ? 'not_an_artifact' : { annotations: [annotations, ...outer], config: toDescriptor(config), ...layer }
    }
    let without: Chosen | undefined
    let reason: SkipReason | undefined
    for (const item of document.index.manifests) {
      const descriptor = toDescriptor(item)
      if (descriptor === undefined || isAttestation(descriptor) || left <= 0) continue
      if (!manifestTypes.has(descriptor.mediaType) && !indexTypes.has(descriptor.mediaType)) continue
      left--
      const found = await child(descriptor, [descriptor.annotations, document.index.annotations, ...outer])
      if (typeof found === 'string') reason ??= found
      else if (found.file !== undefined) return found
      else without ??= found
    }
    return without ?? reason ?? 'not_an_artifact'
  }
  return await choose(root, [])
}

/** What the file of a version is called: its layer's title as a safe base name, else `{name}-{version}.tar.gz`. */
export function fileName (layer: Descriptor, { name, version }: { name: string, version: string }): string {
  // What is cut may end in half a character.
  return safeFileName(titleOf(layer) ?? '') ?? `${name}-${version}.tar.gz`
}
