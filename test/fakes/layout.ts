import { createHash } from 'node:crypto'
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

export const manifestType = 'application/vnd.oci.image.manifest.v1+json'
export const indexType = 'application/vnd.oci.image.index.v1+json'
const layerType = 'application/vnd.oci.image.layer.v1.tar+gzip'
const emptyConfig = { mediaType: 'application/vnd.oci.empty.v1+json', content: '{}' }
const imageConfigType = 'application/vnd.oci.image.config.v1+json'

export interface FakeLayer {
  content: string | Buffer
  title?: string
  mediaType?: string
  /** Annotations next to the title. */
  annotations?: Record<string, string>
}

/** Damage of a written artifact. */
export type Fault =
  /** The file is missing. */
  | 'missing blob'
  /** The manifest is missing. */
  | 'missing manifest'
  /** The bytes of the file do not match its digest; the size is right. */
  | 'wrong blob'
  /** The file is longer than the size of its descriptor. */
  | 'long blob'
  /** The bytes of the manifest do not match its digest. */
  | 'wrong manifest'
  /** The file is a link to one outside the root of the layout. */
  | 'blob outside'
  /** The manifest is a link to one outside the root of the layout. */
  | 'manifest outside'

/** One tag of one repository. */
export interface FakeArtifact {
  repository: string
  tag: string
  /** The default is one archive named after the repository; an empty list creates a version without a file. */
  layers?: FakeLayer[]
  annotations?: Record<string, unknown>
  /** Annotations of the tag in `index.json`. */
  tagAnnotations?: Record<string, unknown>
  /** Content of the config; the default is the empty config. */
  config?: Record<string, unknown>
  /** Media type of the config; the default is that of a container image. */
  configType?: string
  /** `artifactType` of the manifest; null omits it, as in container images and Helm charts. */
  artifactType?: string | null
  /**
   * Puts the manifest into an index after the descriptors of `before`, with these annotations. `descriptor` extends its
   * own descriptor, and `more` has further manifests.
   */
  index?: {
    before?: unknown[],
    descriptor?: object,
    more?: Array<{ layers: FakeLayer[], descriptor: object }>,
    annotations?: Record<string, unknown>
  }
  /** Omits the `mediaType` of the manifest and of the index. */
  untyped?: boolean
  /** Algorithm of the digests of files and manifests; the default is `sha256`. */
  algorithm?: 'sha256' | 'sha512'
  fault?: Fault
}

export interface FakeLayoutOptions {
  /** `tree` (the default): one layout for each repository, by its path. `single`: one layout. */
  shape?: 'tree' | 'single'
  /** Returns the `ref.name` of an artifact; the default is the tag in a tree, else `repository:tag`. */
  reference?: (artifact: FakeArtifact) => string
  /** Further descriptors in each `index.json`. */
  junk?: unknown[]
}

/** Digests of a written artifact, in the order of the arguments. */
export interface Written { manifest: string, file?: string }

const digestOf = (content: string | Buffer, algorithm: string) =>
  `${algorithm}:${createHash(algorithm).update(content).digest('hex')}`
const blobPath = (layout: string, digest: string) => join(layout, 'blobs', ...digest.split(':'))

async function put (path: string, content: string | Buffer): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, content)
}

async function putBlob (layout: string, content: string | Buffer, mediaType: string, algorithm = 'sha256') {
  const digest = digestOf(content, algorithm)
  await put(blobPath(layout, digest), content)
  return { mediaType, digest, size: Buffer.byteLength(content) }
}

/** Writes the content of one artifact, and returns the descriptor for `index.json`. */
async function writeArtifact (root: string, layout: string, artifact: FakeArtifact) {
  const { annotations, algorithm = 'sha256', artifactType = 'application/vnd.example', fault, untyped = false } =
    artifact
  const putLayers = async (given: FakeLayer[]) =>
    await Promise.all(given.map(async ({ content, title, mediaType = layerType, annotations: more }) => ({
      ...await putBlob(layout, content, mediaType, algorithm),
      ...((title !== undefined || more !== undefined) &&
        { annotations: { ...(title !== undefined && { 'org.opencontainers.image.title': title }), ...more } })
    })))
  const layers = await putLayers(
    artifact.layers ??
      [{ content: `file of ${artifact.repository} ${artifact.tag}`, title: `${basename(artifact.repository)}.tar.gz` }]
  )
  const config = artifact.config === undefined
    ? await putBlob(layout, emptyConfig.content, emptyConfig.mediaType)
    : await putBlob(layout, JSON.stringify(artifact.config), artifact.configType ?? imageConfigType)
  const putManifest = async (own: typeof layers) => await putBlob(layout, JSON.stringify({
    schemaVersion: 2,
    ...(!untyped && { mediaType: manifestType }),
    ...(artifactType !== null && { artifactType }),
    config,
    layers: own,
    ...(annotations && { annotations })
  }), manifestType, algorithm)
  const manifest = await putManifest(layers)
  const [file] = layers

  const damage = async (digest: string | undefined, how: 'missing' | 'wrong' | 'long' | 'outside') => {
    if (digest === undefined) return
    const path = blobPath(layout, digest)
    const content = await readFile(path)
    await rm(path)
    if (how === 'wrong') {
      await writeFile(path, Buffer.concat([content.subarray(0, -1), Buffer.from([(content.at(-1) ?? 0) ^ 1])]))
    }
    if (how === 'long') await writeFile(path, Buffer.concat([content, Buffer.from('more')]))
    if (how === 'outside') {
      const outside = join(dirname(root), `outside-${basename(path)}`)
      await writeFile(outside, content)
      await symlink(outside, path)
    }
  }
  if (fault === 'missing blob') await damage(file?.digest, 'missing')
  if (fault === 'wrong blob') await damage(file?.digest, 'wrong')
  if (fault === 'long blob') await damage(file?.digest, 'long')
  if (fault === 'blob outside') await damage(file?.digest, 'outside')
  if (fault === 'missing manifest') await damage(manifest.digest, 'missing')
  if (fault === 'wrong manifest') await damage(manifest.digest, 'wrong')
  if (fault === 'manifest outside') await damage(manifest.digest, 'outside')

  const written = { manifest: manifest.digest, ...(file && { file: file.digest }) }
  if (artifact.index === undefined) return { target: manifest, written }
  const { before = [], descriptor: own, more = [], annotations: ofIndex } = artifact.index
  const others = await Promise.all(
    more.map(async ({ layers, descriptor }) => ({ ...await putManifest(await putLayers(layers)), ...descriptor }))
  )
  const target = await putBlob(
    layout,
    JSON.stringify({
      schemaVersion: 2,
      ...(!untyped && { mediaType: indexType }),
      manifests: [...before, { ...manifest, ...own }, ...others],
      ...(ofIndex && { annotations: ofIndex })
    }),
    indexType
  )
  return { target, written }
}

/** Writes real OCI image layouts below `root`, over existing content. */
export async function writeLayout (
  root: string,
  artifacts: FakeArtifact[],
  options: FakeLayoutOptions = {}
): Promise<Written[]> {
  const { shape = 'tree', junk = [] } = options
  const reference = options.reference ?? (({ repository, tag }) => shape === 'tree' ? tag : `${repository}:${tag}`)
  const indexes = new Map<string, unknown[]>()
  const all: Written[] = []
  for (const artifact of artifacts) {
    const layout = shape === 'tree' ? join(root, artifact.repository) : root
    const { target, written } = await writeArtifact(root, layout, artifact)
    const descriptor = {
      ...target,
      annotations: { ...artifact.tagAnnotations, 'org.opencontainers.image.ref.name': reference(artifact) }
    }
    indexes.set(layout, [...indexes.get(layout) ?? [...junk], descriptor])
    all.push(written)
  }
  for (const [layout, manifests] of indexes) {
    await put(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
    await put(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests }))
  }
  return all
}

/** Truncates the `index.json` of a layout as during a write, and returns its former content. */
export async function halfWriteIndex (layout: string): Promise<string> {
  const path = join(layout, 'index.json')
  const whole = await readFile(path, 'utf8')
  await writeFile(path, whole.slice(0, whole.length / 2))
  return whole
}
