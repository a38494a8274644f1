import type { Test } from 'tap'
import type { Driver } from '../../backends/driver/driver.ts'
import { createMapping } from '../../backends/driver/mapping.ts'
import { createCredentials } from '../../backends/oci/registry/credentials.ts'
import { createOciDriver } from '../../backends/oci/driver.ts'
import { createOciRegistry } from '../../backends/oci/registry/client.ts'
import type { Transport } from '../../backends/oci/transport.ts'
import { parseConfig } from '../../lib/config/parse.ts'
import { createUpstream } from '../../plugins/upstream/client.ts'

export interface TransportMore {
  /** Returns milliseconds for the lifetimes of tokens. */
  clock?: () => number
  onRefused?: () => void
  readsStates?: boolean
}

/** Creates the transport of a registry from its `[[oci]]` table, without a server. */
export function createRegistryTransport (t: Test, config: object, more: TransportMore = {}): Transport {
  const { oci: [oci] } = parseConfig({ oci: config })
  if (oci === undefined) throw new Error('no configuration')
  const { namespace } = oci
  const upstream = createUpstream({ userAgent: 'extension-registry-tests', random: () => 0, environment: {} }, {
    instance: oci.name,
    url: oci.registry,
    timeout: oci.timeout_seconds,
    verifySsl: oci.verify_ssl,
    redirectHosts: oci.redirect_hosts,
    namedHosts: oci.auth_hosts,
    concurrency: oci.concurrency,
    waiting: oci.queue
  })
  t.teardown(() => { upstream.close() })
  return createOciRegistry(upstream, {
    instance: oci.name,
    credentials: createCredentials(oci, new URL(oci.registry)),
    authHosts: oci.auth_hosts,
    discovery: oci.discovery,
    repositories: oci.repositories.map(repository => namespace === '' ? repository : `${namespace}/${repository}`),
    publicUrl: oci.public_url ?? oci.registry,
    ...more
  })
}

/** Creates the driver of a registry from its `[[oci]]` table. */
export function createRegistryDriver (t: Test, config: object, more: TransportMore = {}): Driver {
  const { oci: [oci] } = parseConfig({ oci: config })
  if (oci === undefined) throw new Error('no configuration')
  const { name, namespace, mapping } = oci
  return createOciDriver({
    name,
    namespace,
    mapping: createMapping(mapping),
    transport: createRegistryTransport(t, config, more)
  })
}
