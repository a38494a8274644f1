import type { FakeArtifact, FakeLayer } from './layout.ts'

const created = '2026-11-23T05:24:36Z'

/** Returns a chart layer as `helm push` creates it, without a title. */
export const chart = (content: string): FakeLayer => ({
  content,
  mediaType: 'application/vnd.cncf.helm.chart.content.v1.tar+gzip'
})
export const provenance = (content: string): FakeLayer => ({
  content,
  mediaType: 'application/vnd.cncf.helm.chart.provenance.v1.prov'
})

/** Returns a chart as `helm push` publishes it: its own config, no `artifactType`, and these layers. */
export const helmChart = (repository: string, tag: string, layers: FakeLayer[]): FakeArtifact => {
  const [name = '', version = ''] = [repository.split('/').at(-1), tag.replaceAll('_', '+')]
  return {
    repository,
    tag,
    layers,
    config: { name, version, description: 'A Helm chart', apiVersion: 'v2', type: 'application' },
    configType: 'application/vnd.cncf.helm.config.v1+json',
    artifactType: null,
    annotations: {
      'org.opencontainers.image.created': created,
      'org.opencontainers.image.description': 'A Helm chart',
      'org.opencontainers.image.title': name,
      'org.opencontainers.image.version': version
    }
  }
}

/** Returns a directory layer as `oras push` packs it. */
export const orasDirectory = (title: string, content: string): FakeLayer => ({
  content,
  title,
  mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
  annotations: { 'io.deis.oras.content.digest': `sha256:${'d'.repeat(64)}`, 'io.deis.oras.content.unpack': 'true' }
})

/** Returns a file layer as `oras push` uploads it without a media type: always with the type of a tar. */
export const orasFile = (title: string, content: string): FakeLayer => ({
  content,
  title,
  mediaType: 'application/vnd.oci.image.layer.v1.tar'
})

/** Returns files and directories as `oras push` publishes them. */
export const orasArtifact = (repository: string, tag: string, layers: FakeLayer[]): FakeArtifact => ({
  repository,
  tag,
  layers,
  artifactType: 'application/vnd.unknown.artifact.v1',
  annotations: { 'org.opencontainers.image.created': created }
})

/** Returns a container image as `docker push` and `crane append` publish it. */
export const containerImage = (repository: string, tag: string, contents: string[]): FakeArtifact => ({
  repository,
  tag,
  layers: contents.map(content => ({ content, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' })),
  config: { created, architecture: 'amd64', os: 'linux' },
  artifactType: null
})
