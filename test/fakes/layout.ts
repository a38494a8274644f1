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
  /** Annotations beside the title. */
  annotations?: Record<string, string>
}

/** What is done wrong when an artifact is written. */
export type Fault =
  /** The file is not there. */
  | 'missing blob'
  /** The manifest is not there. */
  | 'missing manifest'
  /** The file's bytes differ from its digest; their number does not. */
  | 'wrong blob'
  /** The file is longer than its descriptor says. */
  | 'long blob'
  /** The manifest's bytes differ from its digest. */
  | 'wrong manifest'
  /** The file is a link to one beside the layout's root. */
  | 'blob outside'
  /** The manifest is a link to one beside the layout's root. */
  | 'manifest outside'

/** One tag of one repository. */
export interface FakeArtifact {
  repository: string
  tag: string
  /** One archive named after the repository unless told otherwise; none makes a version without file. */
  layers?: FakeLayer[]
  annotations?: Record<string, unknown>
  /** Annotations beside the tag in `index.json`. */
  tagAnnotations?: Record<string, unknown>
  /** The config's content; the empty config unless told. */
  config?: Record<string, unknown>
  /** What the config says that it is; that of a container image unless told. */
  configType?: string
  /** `artifactType` of the manifest; null leaves it out, as container images and Helm do. */
  artifactType?: string | null
  /**
   * Puts the manifest into an index, behind these descriptors, with these annotations; `descriptor` adds to its own
   * one, `more` are further manifests.
   */
  index?: {
    before?: unknown[],
    descriptor?: object,
    more?: Array<{ layers: FakeLayer[], descriptor: object }>,
    annotations?: Record<string, unknown>
  }
  /** Leaves out the `mediaType` of the manifest and of the index. */
  untyped?: boolean
  /** The algorithm of the file's and the manifest's digest. */
  algorithm?: 'sha256' | 'sha512'
  fault?: Fault
}

export interface FakeLayoutOptions {
  /** `tree` (the default): a layout per repository, by its path. `single`: one layout. */
  shape?: 'tree' | 'single'
  /** How `ref.name` is written; the tag alone in a tree, else `repository:tag`. */
  reference?: (artifact: FakeArtifact) => string
  /** Further descriptors in each `index.json`. */
  junk?: unknown[]
}

/** What was written for an artifact, in the order of the arguments. */
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

/** Writes one artifact's content; gives the descriptor for `index.json`. */
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

/** Writes real OCI image layouts below `root`, over what is there. */
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

/** Leaves the `index.json` of a layout as a writer leaves it that is not done yet; gives what it held. */
export async function halfWriteIndex (layout: string): Promise<string> {
  const path = join(layout, 'index.json')
  const whole = await readFile(path, 'utf8')
  await writeFile(path, whole.slice(0, whole.length / 2))
  return whole
}
