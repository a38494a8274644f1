import client, { type Registry } from '@prometheus-io/client'
import { durationBuckets } from './registry.ts'

/** Methods with requests that are counted and not timed, because their responses need little work. */
const untimedMethods = new Set(['HEAD', 'OPTIONS', 'TRACE', 'CONNECT'])

const labelNames = ['method', 'route', 'status'] as const
type Labels = Record<typeof labelNames[number], string>

/** The durations of some responses: their number in each bucket, the last one without an upper limit, and their sum. */
interface Durations { labels: Labels, buckets: number[], sum: number }

/** The responses of one method, route and status: their number, and their durations unless these are not recorded. */
interface Series { labels: Labels, count: number, durations: Durations | undefined }

/** Records one response: its status, and its duration in milliseconds. */
export type ObserveResponse = (status: number, milliseconds: number) => void

function record (durations: Durations, seconds: number): void {
  let bucket = 0
  while (bucket < durationBuckets.length && seconds > (durationBuckets[bucket] as number)) bucket++
  durations.buckets[bucket] = (durations.buckets[bucket] as number) + 1
  durations.sum += seconds
}

/** Returns the samples of a histogram in the order of the library's own histogram. */
function samplesOf ({ labels, buckets, sum }: Durations) {
  let count = 0
  const countUpTo = buckets.map(inBucket => {
    count += inBucket
    return count
  })
  const name = 'http_request_duration_seconds'
  const sample = (suffix: string, value: number, own: object = {}) =>
    ({ metricName: `${name}_${suffix}`, labels: { ...own }, sharedLabels: labels, value })
  return [
    ...countUpTo.map((value, at) => sample('bucket', value, { le: durationBuckets[at] ?? '+Inf' })),
    sample('sum', sum),
    sample('count', count)
  ]
}

/**
 * Registers a histogram whose samples are kept here. An observation by the library's own histogram checks and joins the
 * labels, which takes longer than all other work for the metrics of a request (docs/decisions/011-route-metrics.md).
 */
function registerDurations (register: Registry, durations: readonly Durations[]): void {
  const histogram = {
    name: 'http_request_duration_seconds',
    help: 'HTTP request duration',
    type: 'histogram',
    aggregator: 'sum'
  }
  const metric = { ...histogram, get: async () => ({ ...histogram, values: durations.flatMap(samplesOf) }) }
  // A register reads a metric only by `get`, as it reads those of a cluster.
  register.registerMetric(metric as unknown as client.Histogram)
}

/**
 * Counts and times responses. Labels are resolved once for each method, route and status, and not for each request
 * (docs/decisions/011-route-metrics.md).
 */
export function createRequestMetrics (register: Registry) {
  const allSeries: Series[] = []
  const allDurations: Durations[] = []
  registerDurations(register, allDurations)
  const total = new client.Counter({
    name: 'http_requests_total',
    help: 'Total HTTP requests',
    labelNames,
    registers: [],
    collect: () => {
      total.reset()
      for (const { labels, count } of allSeries) total.inc(labels, count)
    }
  })
  register.registerMetric(total)

  /** Creates the series of one status. `timedAs` is the route of its durations, which are not recorded if unset. */
  function createSeries (labels: Labels, timedAs: string | undefined): Series {
    const series: Series = { labels, count: 0, durations: undefined }
    if (timedAs !== undefined) {
      const buckets = [...durationBuckets.map(() => 0), 0]
      allDurations.push(series.durations = { labels: { ...labels, route: timedAs }, buckets, sum: 0 })
    }
    allSeries.push(series)
    return series
  }

  /**
   * Creates the observer of the responses of a route to one method. The series of `expectedStatuses` exist from the
   * start, so that rates are right from the first request on.
   */
  function createObserver (
    method: string,
    route: string,
    timedAs: string | undefined,
    expectedStatuses: readonly number[]
  ): ObserveResponse {
    const durationRoute = untimedMethods.has(method) ? undefined : timedAs
    const byStatus: Array<Series | undefined> = []
    const seriesOf = (status: number): Series => {
      const series = byStatus[status] ?? createSeries({ method, route, status: String(status) }, durationRoute)
      byStatus[status] = series
      return series
    }
    expectedStatuses.forEach(seriesOf)
    return (status, milliseconds) => {
      const series = seriesOf(status)
      series.count++
      if (series.durations !== undefined) record(series.durations, milliseconds / 1000)
    }
  }

  const unrouted = new Map<string, ObserveResponse>()
  return {
    /** Returns the observer of a route, by its pattern: patterns are limited in number, paths are not. */
    route: (method: string, pattern: string, timed: boolean): ObserveResponse =>
      // A route for preflights never responds with 200.
      createObserver(method, pattern, timed ? pattern : undefined, method === 'OPTIONS' ? [] : [200]),

    /** Returns the observer of all requests without a route. */
    unrouted (method: string): ObserveResponse {
      let observe = unrouted.get(method)
      if (observe === undefined) unrouted.set(method, observe = createObserver(method, 'unknown', '__unknown__', []))
      return observe
    }
  }
}
