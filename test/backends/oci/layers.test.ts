import { equal, ok } from 'node:assert/strict'
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { fileName } from '../../../backends/oci/layers.ts'
import { chooseArtifact } from '../../../backends/oci/artifact.ts'
import type { Descriptor } from '../../../schemas/oci.ts'
import { holds } from '../../properties/run.ts'

const digestOf = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`
const title = 'org.opencontainers.image.title'
const unpack = { 'io.deis.oras.content.unpack': 'true' }

/** Returns a layer whose digest follows from its media type and its title. */
const layer = (mediaType: string, name?: string, more: Record<string, unknown> = {}): Descriptor => ({
  mediaType,
  digest: digestOf(`${mediaType} ${name}`),
  size: 10,
  ...more,
  ...((name !== undefined || more['annotations'] !== undefined) &&
    { annotations: { ...more['annotations'] as object, ...(name !== undefined && { [title]: name }) } })
})

interface Rest { config?: string, artifactType?: string }

/**
 * Returns the digest of the file of a manifest with these layers, undefined without a file, or the reason of a skip.
 */
async function fileOf (layers: Descriptor[], { config, artifactType }: Rest = {}): Promise<string | undefined> {
  const bytes = Buffer.from(JSON.stringify({
    schemaVersion: 2,
    ...(artifactType !== undefined && { artifactType }),
    layers,
    ...(config !== undefined && { config: { mediaType: config, digest: digestOf('config'), size: 2 } })
  }))
  const chosen = await chooseArtifact({ digest: '', bytes }, { fetch: async () => undefined })
  return typeof chosen === 'string' ? chosen : chosen.file?.digest
}

const archives = {
  helm: layer('application/vnd.cncf.helm.chart.content.v1.tar+gzip'),
  'helm, legacy': layer('application/tar+gzip'),
  flux: layer('application/vnd.cncf.flux.content.v1.tar+gzip'),
  'oras, a directory': layer('application/vnd.oci.image.layer.v1.tar+gzip', 'aws', { annotations: unpack }),
  'oras, a directory that is named like a text': layer('application/vnd.oci.image.layer.v1.tar+gzip', 'readme', {
    annotations: unpack
  }),
  'oras, a titled archive': layer('application/vnd.oci.image.layer.v1.tar', 'aws.tar.xz'),
  'an archive of a wrong type': layer('text/plain', 'aws.tar.gz'),
  zstd: layer('application/vnd.oci.image.layer.v1.tar+zstd'),
  docker: layer('application/vnd.docker.image.rootfs.diff.tar.gzip'),
  'another letter case': layer('Application/Vnd.Cncf.Helm.Chart.Content.V1.Tar+GZIP'),
  parameters: layer('application/gzip; charset=binary'),
  gzip: layer('application/gzip'),
  'x-gzip': layer('application/x-gzip'),
  tar: layer('application/x-tar'),
  zip: layer('application/zip'),
  opentofu: layer('archive/zip'),
  'zip by suffix': layer('application/vnd.example.module.v1+zip'),
  'zstd alone': layer('application/zstd'),
  wasm: layer('application/wasm'),
  'wasm-to-oci': layer('application/vnd.wasm.content.layer.v1+wasm'),
  'a titled module': layer('application/octet-stream', 'filter.wasm')
}

const sides = {
  'helm provenance': layer('application/vnd.cncf.helm.chart.provenance.v1.prov'),
  'helm provenance, titled like the chart': layer(
    'application/vnd.cncf.helm.chart.provenance.v1.prov',
    'aws-1.0.0.tgz'
  ),
  cosign: layer('application/vnd.dev.cosign.simplesigning.v1+json'),
  sigstore: layer('application/vnd.dev.sigstore.bundle.v0.3+json', 'aws.tar.gz.sigstore'),
  'notation, jose': layer('application/jose+json'),
  'notation, cose': layer('application/cose'),
  pgp: layer('application/pgp-signature'),
  spdx: layer('application/spdx+json', 'sbom.tar.gz'),
  'spdx as text': layer('text/spdx'),
  'spdx, compressed': layer('application/spdx+json+gzip'),
  'cyclonedx json': layer('application/vnd.cyclonedx+json'),
  'cyclonedx xml': layer('application/vnd.cyclonedx+xml'),
  syft: layer('application/vnd.syft+json'),
  'in-toto': layer('application/vnd.in-toto+json'),
  dsse: layer('application/vnd.dsse.envelope.v1+json'),
  markdown: layer('text/markdown', 'docs.md'),
  json: layer('application/json'),
  yaml: layer('application/yaml'),
  picture: layer('image/png', 'logo.png'),
  'a README of the type of a tar': layer('application/vnd.oci.image.layer.v1.tar', 'README.md'),
  'a README of the type of an archive': layer('application/vnd.oci.image.layer.v1.tar+gzip', 'docs/README.md'),
  'a README without an ending': layer('application/vnd.oci.image.layer.v1.tar', 'README'),
  licence: layer('application/vnd.oci.image.layer.v1.tar', 'LICENSE'),
  'licence by its kind': layer('application/octet-stream', 'LICENSE-APACHE'),
  'licence, as the British write it': layer('application/octet-stream', 'Licence.txt'),
  checksum: layer('application/vnd.oci.image.layer.v1.tar', 'aws.tar.gz.sha256'),
  checksums: layer('application/octet-stream', 'SHA256SUMS'),
  signature: layer('application/octet-stream', 'aws.tar.gz.sig'),
  'armoured signature': layer('application/octet-stream', 'aws.tar.gz.asc'),
  provenance: layer('application/octet-stream', 'aws-1.0.0.tgz.prov'),
  values: layer('application/octet-stream', 'values.yaml'),
  'titled json': layer('application/vnd.oci.image.layer.v1.tar', 'metadata.json')
}

await t.test('next to a side layer of any kind an archive of any kind is the file, in either order', async t => {
  for (const [kind, archive] of Object.entries(archives)) {
    for (const [beside, side] of Object.entries(sides)) {
      t.equal(await fileOf([archive, side]), archive.digest, `${kind}, then ${beside}`)
      t.equal(await fileOf([side, archive]), archive.digest, `${beside}, then ${kind}`)
    }
  }
})

await t.test('a layer of an unknown kind is the file when all other layers are side layers', async t => {
  for (
    const file of [
      layer('application/octet-stream'),
      layer('application/vnd.example', 'aws'),
      layer('application/octet-stream', 'aws.bin')
    ]
  ) {
    t.equal(await fileOf([sides.json, file, sides.licence]), file.digest)
  }
})

await t.test('several side layers alone are not an artifact; a single one is the file', async t => {
  for (const [kind, side] of Object.entries(sides)) t.equal(await fileOf([side]), side.digest, kind)
  t.equal(await fileOf([sides.json, sides.licence]), 'not_an_artifact')
  t.equal(await fileOf([sides.json, sides.json]), sides.json.digest, 'the same content twice is one layer')
})

await t.test('several layers of unknown kinds are not an artifact', async t => {
  t.equal(
    await fileOf([layer('application/octet-stream', 'a'), layer('application/octet-stream', 'b')]),
    'not_an_artifact'
  )
  t.equal(
    await fileOf([layer('application/vnd.ollama.image.model'), layer('application/vnd.ollama.image.template')]),
    'not_an_artifact'
  )
})

await t.test('of several archives the first in the manifest is the file; a foreign layer has the lowest ' +
  'priority', async t => {
  t.equal(await fileOf([archives.zip, archives.helm]), archives.zip.digest)
  t.equal(await fileOf([archives.helm, archives.zip]), archives.helm.digest)
  const foreign = layer('application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', undefined, {
    urls: ['https://example.com/base.tar.gz']
  })
  t.equal(await fileOf([foreign, archives.helm]), archives.helm.digest)
  t.equal(await fileOf([foreign]), foreign.digest)
})

await t.test('a container image with several layers is not an artifact, with and without side layers', async t => {
  const layers = [
    layer('application/vnd.oci.image.layer.v1.tar+gzip'),
    layer('application/vnd.oci.image.layer.v1.tar+zstd')
  ]
  const dockerLayers = [
    layer('application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'),
    layer('application/vnd.docker.image.rootfs.diff.tar.gzip')
  ]
  for (
    const config of [
      'application/vnd.oci.image.config.v1+json',
      'Application/vnd.OCI.image.config.v1+JSON',
      'application/vnd.docker.container.image.v1+json'
    ]
  ) {
    for (const all of [layers, dockerLayers, [...layers, sides.json], [sides['in-toto'], ...layers]]) {
      t.equal(await fileOf(all, { config }), 'not_an_artifact', config)
    }
  }
})

await t.test('an artifact with an image config, an unknown config or no config is distinguished from a container ' +
  'image', async t => {
  const config = 'application/vnd.oci.image.config.v1+json'
  const layers = [
    layer('application/vnd.oci.image.layer.v1.tar+gzip'),
    layer('application/vnd.oci.image.layer.v1.tar+zstd')
  ]
  const [first] = layers
  t.equal(await fileOf(layers.slice(0, 1), { config }), first?.digest, 'one layer')
  t.equal(
    await fileOf([...layers.slice(0, 1), sides['helm provenance']], { config }),
    first?.digest,
    'one layer and its provenance'
  )
  t.equal(await fileOf(layers, { config, artifactType: 'application/vnd.example' }), first?.digest, 'with an ' +
    'artifactType')
  t.equal(
    await fileOf([archives['oras, a directory'], sides.licence], { config }),
    archives['oras, a directory'].digest,
    'with titles'
  )
  t.equal(
    await fileOf([archives['oras, a directory'], archives['oras, a titled archive']], { config }),
    archives['oras, a directory'].digest,
    'with several titles'
  )
  for (
    const unknown of [
      'application/vnd.unknown.config.v1+json',
      'application/vnd.cncf.helm.config.v1+json',
      'application/vnd.oci.empty.v1+json',
      undefined
    ]
  ) {
    t.equal(
      await fileOf(layers, unknown === undefined ? {} : { config: unknown }),
      first?.digest,
      unknown ?? 'no config'
    )
  }
})

await t.test('additional side layers never change the file, for any layers in any order', async t => {
  const pool = [...Object.values(archives), layer('application/octet-stream', 'a'), layer('application/vnd.example')]
  await holds(
    t,
    fc.asyncProperty(
      fc.uniqueArray(fc.constantFrom(...pool), { minLength: 1, maxLength: 4, selector: ({ digest }) => digest }),
      fc.array(fc.constantFrom(...Object.values(sides)), { maxLength: 4 }),
      fc.infiniteStream(fc.nat()),
      fc.constantFrom<Rest>({}, { artifactType: 'application/vnd.example' }, {
        config: 'application/vnd.oci.image.config.v1+json'
      }, { config: 'application/vnd.cncf.helm.config.v1+json' }),
      async (files, besides, positions, rest) => {
        const alone = await fileOf(files, rest)
        const mixed = [...files]
        for (const side of besides) mixed.splice((positions.next().value as number) % (mixed.length + 1), 0, side)
        equal(await fileOf(mixed, rest), alone)
      }
    ),
    { runs: 500 }
  )
})

await t.test('reordered layers have a file exactly when the layers had one before', async t => {
  const pool = [
    ...Object.values(archives),
    ...Object.values(sides),
    layer('application/octet-stream', 'a'),
    layer('application/vnd.example')
  ]
  await holds(
    t,
    fc.asyncProperty(
      fc.array(fc.constantFrom(...pool), { minLength: 1, maxLength: 5 }),
      fc.infiniteStream(fc.nat()),
      async (layers, positions) => {
        const shuffled: Descriptor[] = []
        for (const item of layers) shuffled.splice((positions.next().value as number) % (shuffled.length + 1), 0, item)
        const [before, after] = [await fileOf(layers), await fileOf(shuffled)]
        const digests = new Set(layers.map(({ digest }) => digest))
        equal(after === 'not_an_artifact', before === 'not_an_artifact')
        for (const file of [before, after]) ok(file === 'not_an_artifact' || digests.has(file ?? ''))
      }
    ),
    { runs: 500 }
  )
})

await t.test('the ending of a file name matches its content', t => {
  const named = (mediaType: string, name?: string, more: Record<string, unknown> = {}) =>
    fileName(layer(mediaType, name, more), { name: 'aws', version: '1.2.0-rc.1' })
  const tarGz = 'application/vnd.oci.image.layer.v1.tar+gzip'
  const byType: Record<string, string> = {
    'application/vnd.cncf.helm.chart.content.v1.tar+gzip': '.tar.gz',
    'application/vnd.oci.image.layer.v1.tar+zstd': '.tar.zst',
    'application/vnd.oci.image.layer.v1.tar': '.tar',
    'application/vnd.docker.image.rootfs.diff.tar.gzip': '.tar.gz',
    'application/vnd.docker.image.rootfs.diff.tar.zstd': '.tar.zst',
    'application/X-TAR; q=1': '.tar',
    'application/gzip': '.tar.gz',
    'application/x-tgz': '.tar.gz',
    'application/zstd': '.tar.zst',
    'application/x-xz': '.tar.xz',
    'application/x-bzip2': '.tar.bz2',
    'application/zip': '.zip',
    'application/x-zip-compressed': '.zip',
    'archive/zip': '.zip',
    'application/vnd.example+zip': '.zip',
    'application/wasm': '.wasm',
    'application/vnd.wasm.content.layer.v1+wasm': '.wasm',
    'application/json': '.json',
    'application/spdx+json': '.json',
    'text/plain': '.txt',
    'application/octet-stream': '.tar.gz',
    'application/vnd.example': '.tar.gz'
  }
  for (const [mediaType, ending] of Object.entries(byType)) {
    t.equal(named(mediaType), `aws-1.2.0-rc.1${ending}`, mediaType)
  }

  const titles: Array<[given: string, name: string]> = [
    ['aws', 'aws.tar.gz'],
    ['dist/aws', 'aws.tar.gz'],
    ['dist/aws/', 'aws.tar.gz'],
    ['aws-1.2', 'aws-1.2.tar.gz'],
    ['v1.2', 'v1.2.tar.gz'],
    ['aws-1.2.0-rc.1', 'aws-1.2.0-rc.1.tar.gz'],
    ['aws.bin', 'aws.bin'],
    ['foo.bar', 'foo.bar'],
    ['aws.tgz', 'aws.tgz'],
    ['aws.TAR.GZ', 'aws.TAR.GZ'],
    ['aws.zip', 'aws.zip'],
    ['.', 'aws-1.2.0-rc.1.tar.gz'],
    ['aws.', 'aws.tar.gz']
  ]
  for (const [given, name] of titles) t.equal(named(tarGz, given), name, given)
  t.equal(
    named(tarGz, 'conf.d', { annotations: unpack }),
    'conf.d.tar.gz',
    'a dot in the name of a directory does not start an ending'
  )
  t.equal(named(tarGz, 'aws.tgz', { annotations: unpack }), 'aws.tgz')
  t.equal(
    fileName(layer(tarGz, 'aws-1.0.0+build.abc'), { name: 'aws', version: '1.0.0+build.abc' }),
    'aws-1.0.0+build.abc.tar.gz',
    'a dot in a version does not start an ending'
  )
  t.equal(named('application/zip', 'aws'), 'aws.zip')
  t.equal(named('application/wasm', 'filter'), 'filter.wasm')
  t.equal(named('application/octet-stream', 'aws'), 'aws', 'the title is kept when the media type is unknown')
  t.equal(named('text/plain', 'LICENSE'), 'LICENSE')
  const long = named(tarGz, 'x'.repeat(300))
  t.ok(long.length <= 200 && long.endsWith('.tar.gz'))
  t.end()
})
