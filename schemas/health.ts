import { Type, type Static } from '@sinclair/typebox'
import { Ref } from './ref.ts'

const status = {
  enabled: Type.Boolean({ description: 'Backend enabled: at least one instance is configured' }),
  healthy: Type.Boolean({
    description:
      'Backend healthy: the last probe and the last crawl of every instance succeeded. Single repositories that ' +
        'refuse the credentials do not count'
  }),
  error: Type.Optional(Type.String({ description: 'Error message if unhealthy', examples: ['Connection timeout'] })),
  circuit: Type.Optional(
    Type.String({
      description:
        'Circuit breaker of an instance, absent while it is closed: `open` (requests are suspended after failures) ' +
          'or `half-open` (one request tests the instance)',
      examples: ['open']
    })
  )
}

export const InstanceStatus = Type.Object(status, {
  $id: 'registry.InstanceStatus',
  description: 'Health of one configured instance'
})
export type InstanceStatus = Static<typeof InstanceStatus>

export const BackendStatus = Type.Object({
  ...status,
  instances: Type.Optional(
    Type.Record(Type.String(), Ref(InstanceStatus), {
      description: 'Each instance by its name, if there are several'
    })
  )
}, { $id: 'registry.BackendStatus', description: 'Health of one kind of backend' })
export type BackendStatus = Static<typeof BackendStatus>

export const BackendHealth = Type.Object({
  gitea: Ref(BackendStatus),
  oci: Ref(BackendStatus)
}, { $id: 'registry.BackendHealth', description: 'Backend health status' })
export type BackendHealth = Static<typeof BackendHealth>

export const HealthResponse = Type.Object({
  status: Type.String({
    description: '`healthy`, or `degraded` if an enabled backend is not healthy',
    examples: ['healthy']
  }),
  version: Type.String({ description: 'Service version', examples: ['0.1.0'] }),
  uptime: Type.Integer({ description: 'Uptime in whole seconds', examples: [3600] }),
  backends: Ref(BackendHealth)
}, {
  $id: 'registry.HealthResponse',
  description: 'Health of the service and of its backends',
  examples: [{
    status: 'degraded',
    version: '0.1.0',
    uptime: 7200,
    backends: {
      gitea: { enabled: true, healthy: false, error: 'Connection timeout' },
      oci: { enabled: true, healthy: true }
    }
  }]
})
export type HealthResponse = Static<typeof HealthResponse>

export const ProbeResponse = Type.Object({
  status: Type.String({ description: 'Always `ok`', examples: ['ok'] })
}, { $id: 'registry.ProbeResponse', description: 'A probe succeeded' })
export type ProbeResponse = Static<typeof ProbeResponse>
