// Writes the embedded catalog, a tree of OCI image layouts. Its bytes are the same on every machine. Without an
// argument it replaces examples/registry. With a directory, which must be new or empty, it writes into that directory.
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { gzip, tar, type ArchiveFile } from './examples/archive.ts'
import { examples, type Example, type ExampleVersion } from './examples/catalog.ts'

const sources = join(import.meta.dirname, 'examples')
const committed = join(import.meta.dirname, '..', 'examples', 'registry')

const artifactType = 'application/vnd.provisioning.extension.v1'
const manifestType = 'application/vnd.oci.image.manifest.v1+json'
const suffixes = { provider: 'prov', taskserv: 'taskserv', cluster: 'cluster' }

interface Blob { digest: string, bytes: Buffer }

const blob = (content: Buffer | string): Blob => {
  const bytes = Buffer.from(content)
  return { digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`, bytes }
}
const descriptor = (mediaType: string, { digest, bytes }: Blob) => ({ mediaType, digest, size: bytes.length })
const emptyConfig = blob('{}')

function manifestToml (
  { type, name, title, description, vendor, keywords = [], requires = [] }: Example,
  { version }: ExampleVersion
): string {
  // JSON strings and arrays of strings are also valid TOML.
  const values = { name, type, version, title, description, author: vendor, keywords, requires }
  return `[extension]\n${Object.entries(values).map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`).join('')}`
}

/** Returns the files of a version: its manifest, and its sources with the version inserted. */
async function filesOf (example: Example, version: ExampleVersion): Promise<ArchiveFile[]> {
  const { type, name } = example
  const directory = join(sources, type, name)
  const own = await Promise.all(
    (await readdir(directory)).sort().map(async file => {
      const text = (await readFile(join(directory, file), 'utf8')).replaceAll('\r\n', '\n').replaceAll(
        '@VERSION@',
        version.version
      )
      return { file, text: file === 'README.md' ? `${text}\n## ${version.version}\n\n${version.changes}\n` : text }
    })
  )
  return [{ file: 'manifest.toml', text: manifestToml(example, version) }, ...own]
    .map(({ file, text }) => ({
      path: `${name}/${file}`,
      content: Buffer.from(text),
      executable: file.endsWith('.sh')
    }))
}

/** Returns the blobs of a version, and its descriptor for the index. */
async function versionOf (example: Example, version: ExampleVersion) {
  const { type, name, title, description, vendor, keywords } = example
  const repository = `${name}_${suffixes[type]}`
  const layer = blob(gzip(tar(await filesOf(example, version), Date.parse(version.created) / 1000)))
  const manifest = blob(JSON.stringify({
    schemaVersion: 2,
    mediaType: manifestType,
    artifactType,
    config: descriptor('application/vnd.oci.empty.v1+json', emptyConfig),
    layers: [{
      ...descriptor('application/vnd.oci.image.layer.v1.tar+gzip', layer),
      annotations: { 'org.opencontainers.image.title': `${repository}.tar.gz` }
    }],
    annotations: {
      'org.opencontainers.image.created': version.created,
      'org.opencontainers.image.title': title,
      'org.opencontainers.image.description': description,
      'org.opencontainers.image.vendor': vendor,
      'org.opencontainers.image.version': version.version,
      'org.opencontainers.image.source': `https://gitea.example.com/org/${repository}`,
      ...(keywords !== undefined && { 'io.artifacthub.keywords': keywords.join(',') })
    }
  }))
  return {
    blobs: [layer, manifest],
    listed: {
      ...descriptor(manifestType, manifest),
      artifactType,
      annotations: { 'org.opencontainers.image.ref.name': version.tag ?? version.version }
    }
  }
}

async function put (path: string, content: Buffer | string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, content)
}

/** Writes the layout of one extension. */
async function writeExample (root: string, example: Example): Promise<void> {
  const layout = join(root, example.type, example.name)
  const versions = await Promise.all(example.versions.map(async version => await versionOf(example, version)))
  for (const { digest, bytes } of [emptyConfig, ...versions.flatMap(({ blobs }) => blobs)]) {
    await put(join(layout, 'blobs', ...digest.split(':')), bytes)
  }
  await put(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  await put(
    join(layout, 'index.json'),
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: versions.map(({ listed }) => listed)
    })
  )
}

const [, , argument] = process.argv
if (argument === undefined) await rm(committed, { recursive: true, force: true })
else {
  await mkdir(argument, { recursive: true })
  if ((await readdir(argument)).length > 0) throw new Error(`${argument} is not empty`)
}
for (const example of examples) await writeExample(argument ?? committed, example)
