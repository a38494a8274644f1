import type { FakeArtifact } from './layout.ts'

const artifact = (
  repository: string,
  tag: string,
  description: string,
  file?: string,
  keywords?: string
): FakeArtifact => ({
  repository,
  tag,
  layers: file === undefined ? [] : [{ content: `${repository} ${tag}`, title: file }],
  annotations: {
    'org.opencontainers.image.created': '2026-11-23T05:24:36Z',
    'org.opencontainers.image.description': description,
    'org.opencontainers.image.vendor': 'Provisioning team',
    ...(keywords !== undefined && { 'io.artifacthub.keywords': keywords })
  }
})
/** Content that the conformance suite requires of an OCI upstream. */
export const artifacts: FakeArtifact[] = [
  ...['v1.0.0', '1.1.0', '1.2.0', '2.0.0-rc.1', 'nightly'].map(tag =>
    artifact(
      'provider/aws',
      tag,
      'AWS provider for provisioning infrastructure',
      'aws_prov.tar.gz',
      'aws,cloud,infrastructure'
    )
  ),
  ...['0.1.0-alpha.1', '0.1.0-alpha.10', '0.1.0-alpha.9'].map(tag =>
    artifact('onlyrc_prov', tag, 'Nothing but pre-releases', 'onlyrc_prov.tar.gz')
  ),
  ...['1.28.0', '1.27.4', '1.27.5'].map(tag =>
    artifact(
      'taskservs/kubernetes',
      tag,
      'Kubernetes container orchestration platform',
      'kubernetes_taskserv.tar.gz',
      'containers'
    )
  ),
  artifact('taskserv/k3s', 'v1.27.5_k3s1', 'Lightweight Kubernetes distribution', 'k3s_taskserv.tar.gz'),
  artifact('cluster/web', '0.9.0', 'Web tier: load balancer, app servers, database'),
  artifact('website', '1.0.0', 'Not an extension', 'website.tar.gz')
]
