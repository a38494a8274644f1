import client, { type LabelValues, type Registry } from '@prometheus-io/client'

/** Upper limits of the buckets of duration histograms, in seconds. */
export const durationBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** Reasons to refuse a request in order to limit the load. */
export const shedReasons = ['event_loop', 'downloads', 'rate_limit'] as const

type Samples<L extends string> = Array<{ labels: LabelValues<L>, value: number }>

/** Returns the samples of a metric. */
type Collect<L extends string> = () => Samples<L> | Promise<Samples<L>>

async function refill<L extends string> (
  metric: { reset: () => void },
  add: (labels: LabelValues<L>, value: number) => void,
  collect: Collect<L>
): Promise<void> {
  const samples = await collect()
  metric.reset()
  for (const { labels, value } of samples) add(labels, value)
}

/** Creates the metrics of one registry, except those of HTTP requests. */
export function createTelemetry (register: Registry) {
  const registers = [register]
  const bytes = new client.Counter({
    name: 'download_bytes_total',
    help:
      'Bytes of files sent to clients: from the store, from a new transfer (upstream), from a transfer in progress ' +
        '(coalesced), or without the store (passed)',
    labelNames: ['source'] as const,
    registers
  })
  const fetched = new client.Counter({
    name: 'upstream_download_bytes_total',
    help: 'Bytes of files received from upstreams',
    labelNames: ['backend'] as const,
    registers
  })
  const resumed = new client.Counter({
    name: 'transfers_resumed_total',
    help: 'Transfers from upstreams that were interrupted and resumed',
    labelNames: ['backend'] as const,
    registers
  })
  const rereleased = new client.Counter({
    name: 'rereleases_total',
    help: 'Versions that were published again with different content',
    labelNames: ['backend'] as const,
    registers
  })
  const upstreamRequests = new client.Counter({
    name: 'upstream_requests_total',
    help: 'Requests to upstreams; a request and its retries count as one',
    labelNames: ['backend', 'status'] as const,
    registers
  })
  const upstreamSeconds = new client.Histogram({
    name: 'upstream_request_duration_seconds',
    help: 'Duration of requests to upstreams until the headers, or for JSON until the end of the body',
    labelNames: ['backend'] as const,
    buckets: durationBuckets,
    registers
  })
  const damaged = new client.Counter({
    name: 'checksum_failures_total',
    help: 'Transfers of files with a wrong digest or size, which were aborted',
    labelNames: ['backend'] as const,
    registers
  })
  const skipped = new client.Counter({
    name: 'extensions_skipped_total',
    help: 'Skipped repositories, tags and files, each counted once',
    labelNames: ['backend', 'reason'] as const,
    registers
  })
  const shed = new client.Counter({
    name: 'requests_shed_total',
    help:
      'Requests to the catalog that were refused to limit the load: delayed event loop, too many downloads, or a ' +
        'client above its rate limit',
    labelNames: ['reason'] as const,
    registers
  })
  for (const reason of shedReasons) shed.inc({ reason }, 0)

  return {
    register,
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

    /** Adds a gauge. `collect` returns its samples at each scrape. */
    gauge<L extends string> (name: string, help: string, labelNames: readonly L[], collect: Collect<L>): void {
      const gauge = new client.Gauge({
        name,
        help,
        labelNames: [...labelNames],
        registers: [],
        collect: async () => { await refill(gauge, (labels, value) => { gauge.set(labels, value) }, collect) }
      })
      register.registerMetric(gauge)
    },

    /** Adds a counter that is kept elsewhere. `collect` returns its samples at each scrape. */
    counter<L extends string> (name: string, help: string, labelNames: readonly L[], collect: Collect<L>): void {
      const counter = new client.Counter({
        name,
        help,
        labelNames: [...labelNames],
        registers: [],
        collect: async () => { await refill(counter, (labels, value) => { counter.inc(labels, value) }, collect) }
      })
      register.registerMetric(counter)
    }
  }
}

export type Telemetry = ReturnType<typeof createTelemetry>
