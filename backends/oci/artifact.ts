import { Value } from '@sinclair/typebox/value'
import { parseJson } from '../../lib/json.ts'
import { ImageIndex, ImageManifest, type Descriptor } from '../../schemas/oci.ts'
import type { Skipped, SkipReason } from '../driver/driver.ts'
import { describePlatform, platformOf, type Platform } from '../driver/platform.ts'
import { toDescriptor } from './content.ts'
import { chooseLayer, layerName } from './layers.ts'
import { baseType, indexTypes, isStatementType, manifestTypes } from './media-types.ts'
import { ContentError, type Manifest } from './transport.ts'

/** Maximum number of manifests read to find the file of one tag, nested indexes included. */
const maxChildren = 16

/** A manifest or an index; undefined for a document of another kind. */
export type Document = { kind: 'manifest', manifest: ImageManifest } | { kind: 'index', index: ImageIndex } | undefined

/**
 * Returns the media type that decides the kind of a document: its own, else the transport's where that names a kind.
 * Some servers send `application/json`, `text/plain` or `application/octet-stream` for every kind; its form decides
 * then.
 */
function decidingType (body: object, outer: string | undefined): string | undefined {
  const own = 'mediaType' in body && typeof body.mediaType === 'string' ? baseType(body.mediaType) : ''
  if (own !== '') return own
  const given = baseType(outer ?? '')
  return given.startsWith('application/vnd.') ? given : undefined
}

/**
 * Parses a manifest or an index. Its own `mediaType` decides which it is, else the transport's, else its form.
 * Throws a {@link ContentError} when it is not JSON, not of its declared kind, or of both kinds at once.
 */
export function parseDocument ({ bytes, mediaType: outer }: Manifest): Document {
  let body: unknown
  try {
    body = parseJson(bytes)
  } catch (cause) {
    throw new ContentError('The manifest is not JSON', { cause })
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new ContentError('The manifest is not an object')
  }
  // One document must not be read in two ways (CVE-2021-41190).
  if ('manifests' in body && 'layers' in body) throw new ContentError('The manifest is also an index')
  const mediaType = decidingType(body, outer)
  if (mediaType === undefined ? 'manifests' in body : indexTypes.has(mediaType)) {
    if (!Value.Check(ImageIndex, body)) throw new ContentError('The index is malformed')
    return { kind: 'index', index: body }
  }
  if (mediaType !== undefined && !manifestTypes.has(mediaType)) return undefined
  if (!Value.Check(ImageManifest, body)) throw new ContentError('The manifest is malformed')
  return { kind: 'manifest', manifest: body }
}

/** A manifest or layer that could have been the artifact or its file. */
export type PassedOver = Pick<Skipped, 'kind' | 'reason' | 'file' | 'chosen'>

/** The artifact that a tag points at. */
export interface Chosen {
  /** Annotations of the manifest, then of the indexes that led to it; as they were read. */
  annotations: unknown[]
  config: Descriptor | undefined
  /** Absent when the version has no file. */
  file?: Descriptor
  /** Whether the file is of a side kind, such as a signature. */
  side: boolean
  passedOver: readonly PassedOver[]
  /** Platform of the chosen child, when the index has several and none is configured. */
  firstPlatform?: string
}

export interface ChooseOptions {
  /** Reads a child of an index; undefined when it is missing. Throws a {@link ContentError} when it is damaged. */
  fetch: (child: Descriptor) => Promise<Manifest | undefined>
  /** Platform whose artifacts are taken; the first of an index if unset. */
  platform?: Platform | undefined
}

const platformText = ({ platform }: Descriptor): string | undefined => {
  const known = platformOf(platform)
  return known === undefined ? undefined : describePlatform(known)
}
const childName = (child: Descriptor): string => platformText(child) ?? child.digest

/**
 * Returns whether a child is an attestation. Attestations are in an index beside their subjects, and look like
 * artifacts of one file.
 */
function isAttestation ({ annotations, platform }: Descriptor): boolean {
  const has = (value: unknown, key: string, expected?: string) =>
    typeof value === 'object' && value !== null && key in value &&
    (expected === undefined || (value as Record<string, unknown>)[key] === expected)
  return has(platform, 'os', 'unknown') || has(annotations, 'vnd.docker.reference.type')
}

/** Returns the children of an index that may be artifacts, each once, in order; signatures and the like come last. */
function childrenOf ({ manifests }: ImageIndex): Descriptor[] {
  const children = new Map<string, Descriptor>()
  for (const item of manifests) {
    const child = toDescriptor(item)
    if (child === undefined || isAttestation(child)) continue
    const type = baseType(child.mediaType)
    if (manifestTypes.has(type) || indexTypes.has(type)) children.set(child.digest, children.get(child.digest) ?? child)
  }
  const isStatement = ({ artifactType }: Descriptor) =>
    typeof artifactType === 'string' && isStatementType(artifactType)
  const all = [...children.values()]
  return [...all.filter(child => !isStatement(child)), ...all.filter(isStatement)]
}

/** Returns the children that fit a configured platform: those of the platform, then those without a platform. */
function fitting (children: readonly Descriptor[], platform: Platform | undefined): readonly Descriptor[] {
  if (platform === undefined) return children
  const expected = describePlatform(platform)
  return [
    ...children.filter(child => platformText(child) === expected),
    ...children.filter(child => platformText(child) === undefined)
  ]
}

/** Returns the children beside the chosen one as skipped items, and its platform when it is the first of several. */
function besides (
  children: readonly Descriptor[],
  chosen: Descriptor,
  reasons: ReadonlyMap<string, SkipReason>,
  configured: boolean
): Pick<Chosen, 'passedOver' | 'firstPlatform'> {
  const platform = platformText(chosen)
  const isOther = (child: Descriptor) =>
    platform !== undefined && platformText(child) !== undefined && platformText(child) !== platform
  const others = children.filter(child => child !== chosen)
  return {
    passedOver: others.map(child => ({
      kind: 'manifest',
      reason: reasons.get(child.digest) ?? (isOther(child) ? 'other_platform' : 'not_chosen'),
      file: childName(child),
      chosen: childName(chosen)
    })),
    ...(!configured && platform !== undefined && others.some(isOther) && { firstPlatform: platform })
  }
}

/**
 * Chooses the artifact of a tag's manifest or index. In an index the first child of the configured platform that is
 * an artifact counts, one with a file before one without. A child without a platform fits every platform. Missing,
 * malformed and unknown children are skipped. Returns the reason when no artifact is found: `other_platform` when an
 * index has only artifacts of other platforms. Throws a {@link ContentError} when the document itself is malformed.
 */
export async function chooseArtifact (
  root: Manifest,
  { fetch, platform }: ChooseOptions
): Promise<Chosen | SkipReason> {
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

  function ofManifest (manifest: ImageManifest, outer: unknown[]): Chosen | SkipReason {
    const { annotations, config } = manifest
    const layer = chooseLayer(manifest)
    if (layer === undefined) return 'not_an_artifact'
    const { file, side, others } = layer
    const passedOver = file === undefined
      ? []
      : others.map((other): PassedOver => ({
        kind: 'layer',
        reason: 'not_chosen',
        file: layerName(other),
        chosen: layerName(file)
      }))
    return {
      annotations: [annotations, ...outer],
      config: toDescriptor(config),
      ...(file !== undefined && { file }),
      side,
      passedOver
    }
  }

  async function ofIndex (index: ImageIndex, outer: unknown[]): Promise<Chosen | SkipReason> {
    const children = childrenOf(index)
    const candidates = fitting(children, platform)
    if (candidates.length === 0) return children.length > 0 ? 'other_platform' : 'not_an_artifact'
    const reasons = new Map<string, SkipReason>()
    let best: { descriptor: Descriptor, found: Chosen } | undefined
    for (const descriptor of candidates) {
      if (left-- <= 0) break
      const found = await child(descriptor, [descriptor.annotations, index.annotations, ...outer])
      if (typeof found === 'string') reasons.set(descriptor.digest, found)
      else if (best === undefined || rank(found) > rank(best.found)) best = { descriptor, found }
      if (best !== undefined && rank(best.found) === 2) break
    }
    if (best === undefined) return [...reasons.values()][0] ?? 'not_an_artifact'
    const { passedOver, ...rest } = besides(children, best.descriptor, reasons, platform !== undefined)
    return { ...best.found, ...rest, passedOver: [...best.found.passedOver, ...passedOver] }
  }

  async function choose (manifest: Manifest, outer: unknown[]): Promise<Chosen | SkipReason> {
    const document = parseDocument(manifest)
    if (document === undefined) return 'not_an_artifact'
    return document.kind === 'manifest' ? ofManifest(document.manifest, outer) : await ofIndex(document.index, outer)
  }
  return await choose(root, [])
}

/** Returns the order in which artifacts of an index count: 0 without a file, 1 with a file of a side kind, else 2. */
const rank = ({ file, side }: Chosen): 0 | 1 | 2 => file === undefined ? 0 : side ? 1 : 2
