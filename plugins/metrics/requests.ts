import client, { type Registry } from '@prometheus-io/client'
import { durationBuckets } from './registry.ts'

/** Methods with requests that are counted and not timed, because their responses need little work. */
const untimedMethods = new Set(['HEAD', 'OPTIONS', 'TRACE', 'CONNECT'])

const labelNames = ['method', 'route', 'status'] as const
type Labels = Record<typeof labelNames[number], string>

/** The responses of one method, route and status: their number, and the observer of their durations in seconds. */
interface Series { labels: Labels, count: number, observe: ((seconds: number) => void) | undefined }

/** Records one response: its status, and its duration in milliseconds. */
export type ObserveResponse = (status: number, milliseconds: number) => void

/**
 * Counts and times responses. Labels are resolved once for each method, route and status, and not for each request
 * (docs/decisions/011-route-metrics.md).
 */
export function createRequestMetrics (register: Registry) {
  const allSeries: Series[] = []
  const duration = new client.Histogram({
    name: 'http_request_duration_seconds',
    help: 'HTTP request duration',
    labelNames,
    buckets: durationBuckets,
    registers: [register]
  })
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
    const series: Series = { labels, count: 0, observe: undefined }
    if (timedAs !== undefined) {
      duration.zero({ ...labels, route: timedAs })
      series.observe = duration.labels({ ...labels, route: timedAs }).observe
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
      series.observe?.(milliseconds / 1000)
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
