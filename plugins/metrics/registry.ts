import client, { type LabelValues } from '@prometheus-io/client'
import { createRequestMetrics, durationBuckets as buckets } from './requests.ts'

/** Why a request was refused although it could have been answered. */
export const shedReasons = ['event_loop', 'downloads', 'rate_limit'] as const

/** Gives the samples of a metric. */
type Collect<L extends string> = () => Array<{ labels: LabelValues<L>, value: number }>

function refill<L extends string> (
  metric: { reset: () => void },
  add: (labels: LabelValues<L>, value: number) => void,
  collect: Collect<L>
): void {
  metric.reset()
  for (const { labels, value } of collect()) add(labels, value)
}

/** Metrics of one registry: an own register, so that several live in one process. */
export function createTelemetry () {
  const register = new client.Registry()
  const registers = [register]
  const requests = createRequestMetrics(register)
  const bytes = new client.Counter({
    name: 'download_bytes_total',
    help:
      'Bytes of files served: from the store, from a transfer begun for the download or one under way, or passed on ' +
        'without the store',
    labelNames: ['source'] as const,
    registers
  })
  const fetched = new client.Counter({
    name: 'upstream_download_bytes_total',
    help: 'Bytes of files that came from upstreams',
    labelNames: ['backend'] as const,
    registers
  })
  const resumed = new client.Counter({
    name: 'transfers_resumed_total',
    help: 'Files that broke off on their way from an upstream, and were asked for again',
    labelNames: ['backend'] as const,
    registers
  })
  const rereleased = new client.Counter({
    name: 'rereleases_total',
    help: 'Versions that were published again with another content',
    labelNames: ['backend'] as const,
    registers
  })
  const upstreamRequests = new client.Counter({
    name: 'upstream_requests_total',
    help: 'Requests to upstreams, retries included in one',
    labelNames: ['backend', 'status'] as const,
    registers
  })
  const upstreamSeconds = new client.Histogram({
    name: 'upstream_request_duration_seconds',
    help: 'Duration of requests to upstreams until their headers or, for JSON, their end',
    labelNames: ['backend'] as const,
    buckets,
    registers
  })
  const damaged = new client.Counter({
    name: 'checksum_failures_total',
    help: 'Files that were not what their digest or size said, and broken off',
    labelNames: ['backend'] as const,
    registers
  })
  const skipped = new client.Counter({
    name: 'extensions_skipped_total',
    help: 'Repositories, tags and files that are left out, each counted once',
    labelNames: ['backend', 'reason'] as const,
    registers
  })
  const shed = new client.Counter({
    name: 'requests_shed_total',
    help:
      'Requests to the catalog that were refused to protect it: a late event loop, too many downloads, a client ' +
        'above its rate',
    labelNames: ['reason'] as const,
    registers
  })
  for (const reason of shedReasons) shed.inc({ reason }, 0)

  return {
    register,
    requests,
    observeUpstream: (backend: string, status: string, seconds: number): void => {
      upstreamRequests.inc({ backend, status })
      upstreamSeconds.observe({ backend }, seconds)
    },
    observeSkip: (backend: string, reason: string): void => { skipped.inc({ backend, reason }) },
    observeDamage: (backend: string): void => { damaged.inc({ backend }) },
    observeShed: (reason: typeof shedReasons[number]): void => { shed.inc({ reason }) },
    observeServed: (source: string, count: number): void => { bytes.inc({ source }, count) },
    observeFetched: (backend: string, count: number): void => { fetched.inc({ backend }, count) },
    observeResume: (backend: string): void => { resumed.inc({ backend }) },
    observeRerelease: (backend: string): void => { rereleased.inc({ backend }) },

    /** A gauge that is read when the metrics are: `collect` gives its samples. */
    gauge<L extends string> (name: string, help: string, labelNames: readonly L[], collect: Collect<L>): void {
      const gauge = new client.Gauge({
        name,
        help,
        labelNames: [...labelNames],
        registers: [],
        collect: () => { refill(gauge, (labels, value) => { gauge.set(labels, value) }, collect) }
      })
      register.registerMetric(gauge)
    },

    /** A counter that is kept elsewhere and read when the metrics are. */
    counter<L extends string> (name: string, help: string, labelNames: readonly L[], collect: Collect<L>): void {
      const counter = new client.Counter({
        name,
        help,
        labelNames: [...labelNames],
        registers: [],
        collect: () => { refill(counter, (labels, value) => { counter.inc(labels, value) }, collect) }
      })
      register.registerMetric(counter)
    }
  }
}

export type Telemetry = ReturnType<typeof createTelemetry>
