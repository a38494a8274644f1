import type { ExtensionType } from '../../schemas/extension.ts'

export interface ExampleVersion {
  version: string
  /** Tag, if it differs from the version. */
  tag?: string
  /** Time in UTC. */
  created: string
  /** Changes of the version, for the README. */
  changes: string
}

/** Extension with its files in `{type}/{name}`, next to this file. */
export interface Example {
  type: ExtensionType
  name: string
  title: string
  description: string
  vendor: string
  keywords?: string[]
  requires?: string[]
  versions: ExampleVersion[]
}

const team = 'provisioning-team'
const community = 'community'

const providers: Example[] = [
  {
    type: 'provider',
    name: 'aws',
    title: 'Amazon Web Services',
    description: 'AWS provider for provisioning infrastructure',
    vendor: team,
    keywords: ['cloud', 'aws', 'infrastructure'],
    versions: [
      { version: '1.0.0', created: '2025-04-02T08:00:00Z', changes: 'First release: servers, networks and volumes.' },
      { version: '1.1.0', created: '2025-07-14T09:20:00Z', changes: 'Volumes are encrypted by default.' },
      {
        version: '1.2.0',
        created: '2025-10-06T12:00:00Z',
        changes: 'Credentials may come from the role of an instance.'
      }
    ]
  },
  {
    type: 'provider',
    name: 'upcloud',
    title: 'UpCloud',
    description: 'UpCloud provider for European cloud infrastructure',
    vendor: team,
    versions: [
      { version: '2.1.2', created: '2025-08-29T15:10:00Z', changes: 'Daily backups of the first disk.' },
      { version: '2.1.3', created: '2025-10-05T10:30:00Z', changes: 'The zone es-mad1 is the default.' }
    ]
  },
  {
    type: 'provider',
    name: 'hetzner',
    title: 'Hetzner Cloud',
    description: 'Servers, networks and volumes in Hetzner Cloud',
    vendor: community,
    keywords: ['cloud', 'europe'],
    versions: [
      { version: '0.4.1', created: '2025-08-11T18:05:00Z', changes: 'Volumes are found again after a rename.' },
      {
        version: '0.5.0-beta.2',
        created: '2025-10-01T20:40:00Z',
        changes: 'Placement groups; to be tried before it is released.'
      }
    ]
  },
  {
    type: 'provider',
    name: 'local',
    title: 'Local containers',
    description: 'Containers on one host in place of servers, for development and tests',
    vendor: team,
    keywords: ['development', 'containers'],
    versions: [{ version: '0.3.0', created: '2025-06-23T07:30:00Z', changes: 'Servers find each other by name.' }]
  }
]

const taskservs: Example[] = [
  {
    type: 'taskserv',
    name: 'kubernetes',
    title: 'Kubernetes',
    description: 'Kubernetes container orchestration platform',
    vendor: team,
    keywords: ['containers', 'orchestration'],
    requires: ['taskserv/containerd >=1.6.20', 'taskserv/etcd >=3.5.0'],
    versions: [
      { version: '1.27.4', created: '2025-08-20T08:15:00Z', changes: 'Kubernetes 1.27.4.' },
      {
        version: '1.27.5',
        created: '2025-09-15T10:30:00Z',
        changes: 'Kubernetes 1.27.5; swap stays off after a restart.'
      },
      { version: '1.28.0', created: '2025-10-06T12:00:00Z', changes: 'Kubernetes 1.28.0.' }
    ]
  },
  {
    type: 'taskserv',
    name: 'k3s',
    title: 'K3s',
    description: 'Lightweight Kubernetes distribution',
    vendor: community,
    keywords: ['containers', 'edge'],
    versions: [
      { version: '1.26.9', created: '2025-09-02T11:00:00Z', changes: 'K3s 1.26.9.' },
      {
        version: '1.27.5+k3s1',
        tag: '1.27.5_k3s1',
        created: '2025-09-18T07:45:00Z',
        changes: "K3s 1.27.5, bound to upstream's first build of it."
      },
      { version: '1.27.5', created: '2025-09-20T14:30:00Z', changes: 'K3s 1.27.5, whichever build is the newest.' }
    ]
  },
  {
    type: 'taskserv',
    name: 'kubernetes-dashboard',
    title: 'Dashboard',
    description: 'Web console for the workloads, logs and nodes of a cluster',
    vendor: community,
    keywords: ['console', 'monitoring'],
    requires: ['taskserv/kubernetes >=1.27.0'],
    versions: [{ version: '2.7.0', created: '2025-05-19T16:25:00Z', changes: 'An account that may only look.' }]
  },
  {
    type: 'taskserv',
    name: 'containerd',
    title: 'containerd',
    description: 'Runtime that pulls images and runs containers',
    vendor: team,
    keywords: ['containers', 'runtime'],
    versions: [
      { version: '1.6.20', created: '2024-11-04T09:00:00Z', changes: 'containerd 1.6.20.' },
      { version: '1.6.24', created: '2024-12-02T09:00:00Z', changes: 'containerd 1.6.24.' },
      { version: '1.6.28', created: '2025-01-27T09:00:00Z', changes: 'containerd 1.6.28.' },
      { version: '1.7.0', created: '2025-02-10T09:00:00Z', changes: 'containerd 1.7.0.' },
      { version: '1.7.2', created: '2025-03-10T09:00:00Z', changes: 'containerd 1.7.2.' },
      // This fix for an older line was published later, but it is not the current version.
      { version: '1.6.31', created: '2025-06-16T09:00:00Z', changes: 'containerd 1.6.31.' },
      { version: '1.7.6', created: '2025-04-14T09:00:00Z', changes: 'containerd 1.7.6.' },
      { version: '1.7.10', created: '2025-05-12T09:00:00Z', changes: 'containerd 1.7.10; downloads are checked.' },
      { version: '1.7.13', created: '2025-08-04T09:00:00Z', changes: 'containerd 1.7.13.' },
      { version: '1.7.18', created: '2025-09-22T09:00:00Z', changes: 'containerd 1.7.18.' }
    ]
  },
  {
    type: 'taskserv',
    name: 'cilium',
    title: 'Cilium',
    description: 'Network policy and observability by eBPF',
    vendor: community,
    keywords: ['kubernetes', 'network', 'ebpf'],
    requires: ['taskserv/kubernetes >=1.27.0'],
    versions: [
      { version: '1.14.2', created: '2025-07-30T13:50:00Z', changes: 'Cilium 1.14.2.' },
      { version: '1.15.1', created: '2025-09-26T13:50:00Z', changes: 'Cilium 1.15.1; kube-proxy can be replaced.' }
    ]
  },
  {
    type: 'taskserv',
    name: 'etcd',
    title: 'etcd',
    description: 'Distributed key-value store for the state of a cluster',
    vendor: team,
    keywords: ['storage', 'consensus'],
    versions: [
      { version: '3.5.9', created: '2025-03-25T06:10:00Z', changes: 'etcd 3.5.9.' },
      {
        version: '3.5.16',
        tag: 'v3.5.16',
        created: '2025-09-10T06:10:00Z',
        changes: 'etcd 3.5.16; snapshots every six hours.'
      }
    ]
  },
  {
    type: 'taskserv',
    name: 'coredns',
    title: 'CoreDNS',
    description: 'DNS server chained from plugins, with service discovery for Kubernetes',
    vendor: community,
    keywords: ['dns', 'network'],
    versions: [{ version: '1.11.1', created: '2025-06-05T10:00:00Z', changes: 'CoreDNS 1.11.1.' }]
  },
  {
    type: 'taskserv',
    name: 'postgres',
    title: 'PostgreSQL',
    description: 'PostgreSQL database server with base backups and replicas',
    vendor: team,
    keywords: ['database', 'sql'],
    versions: [
      { version: '15.6.0', created: '2025-02-20T12:00:00Z', changes: 'PostgreSQL 15.6.' },
      {
        version: '16.2.0',
        created: '2025-07-08T12:00:00Z',
        changes: 'PostgreSQL 16.2; connections from outside are refused.'
      }
    ]
  }
]

const clusters: Example[] = [
  {
    type: 'cluster',
    name: 'web',
    title: 'Web servers',
    description: 'Web servers behind a load balancer, with certificates that renew themselves',
    vendor: team,
    keywords: ['web', 'load-balancer'],
    requires: ['taskserv/containerd >=1.7.0', 'taskserv/coredns >=1.11.0'],
    versions: [
      { version: '1.0.0', created: '2025-05-28T08:30:00Z', changes: 'First release.' },
      {
        version: '1.0.1',
        created: '2025-08-15T08:30:00Z',
        changes: 'A server leaves the balancer before it is updated.'
      }
    ]
  },
  {
    type: 'cluster',
    name: 'managed-kubernetes',
    title: 'Managed control plane',
    description: 'Pools of nodes below a control plane that the cloud runs',
    vendor: team,
    keywords: ['cloud', 'orchestration'],
    requires: ['provider/aws >=1.2.0'],
    versions: [{ version: '0.8.0', created: '2025-09-29T17:00:00Z', changes: 'Pools may shrink to nothing.' }]
  },
  {
    type: 'cluster',
    name: 'minikubernetes',
    title: 'One node',
    description: 'Single node for laptops and test runs',
    vendor: community,
    keywords: ['development'],
    requires: ['provider/local >=0.3.0', 'taskserv/k3s >=1.27.0'],
    versions: [{ version: '1.1.0', created: '2025-09-21T19:15:00Z', changes: 'Takes K3s 1.27.' }]
  },
  {
    type: 'cluster',
    name: 'ci',
    title: 'Build runners',
    description: 'Build runners, as many as the queue needs',
    vendor: community,
    keywords: ['ci', 'runners'],
    requires: ['taskserv/containerd >=1.7.0'],
    versions: [{
      version: '0.1.0-alpha.3',
      created: '2025-10-03T21:00:00Z',
      changes: 'Runners are thrown away after one job.'
    }]
  }
]

/** Extensions of the embedded catalog. */
export const examples: readonly Example[] = [...providers, ...taskservs, ...clusters]
