import client, { type Registry } from '@prometheus-io/client'

/** Bounds of the duration histograms, in seconds. */
export const durationBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** Methods whose requests are counted and not timed: what they are asked for is no work. */
const untimed = new Set(['HEAD', 'OPTIONS', 'TRACE', 'CONNECT'])

/** What is known of one method, route and status. */
interface Series { labels: { method: string, route: string, status: string }, count: number, observe: ((seconds: number) => void) | undefined }

/** Told of each answer: its status, and the milliseconds that it took. */
export type ObserveAnswer = (status: number, milliseconds: number) => void

/**
 * Counts and times answers. Labels are looked up once for each method, route and status, and not again for each request:
 * that would cost a quarter of what answering it does.
 */
export function createRequestMetrics (register: Registry) {
  const series: Series[] = []
  const labelNames = ['method', 'route', 'status'] as const
  const registers = [register]
  const duration = new client.Histogram({ name: 'http_request_duration_seconds', help: 'HTTP request duration', labelNames, buckets: durationBuckets, registers })
  register.registerMetric(new client.Counter({
    name: 'http_requests_total',
    help: 'Total HTTP requests',
    labelNames,
    registers: [],
    collect () {
      this.reset()
      for (const { labels, count } of series) this.inc(labels, count)
    }
  }))

  /** Observes the answers of a route to one method, timed under a name that may be another. Series of `usual` statuses are there from the start, so that rates are right from the first request on. */
  function observer (method: string, route: string, timedAs: string | undefined, usual: readonly number[]): ObserveAnswer {
    const durationRoute = untimed.has(method) ? undefined : timedAs
    const byStatus: Array<Series | undefined> = []
    function of (status: number): Series {
      const known = byStatus[status]
      if (known !== undefined) return known
      const made: Series = { labels: { method, route, status: String(status) }, count: 0, observe: undefined }
      if (durationRoute !== undefined) {
        const labels = { ...made.labels, route: durationRoute }
        duration.zero(labels)
        made.observe = duration.labels(labels).observe
      }
      series.push(made)
      byStatus[status] = made
      return made
    }
    usual.forEach(of)
    return (status, milliseconds) => {
      const one = of(status)
      one.count++
      one.observe?.(milliseconds / 1000)
    }
  }

  const unrouted = new Map<string, ObserveAnswer>()
  return {
    /** The observer of a route, by its pattern: those are bounded in number, paths are not. */
    route: (method: string, pattern: string, timed: boolean): ObserveAnswer => observer(method, pattern, timed ? pattern : undefined, [200]),

    /** The observer of all that has no route. */
    unrouted (method: string): ObserveAnswer {
      let observe = unrouted.get(method)
      if (observe === undefined) unrouted.set(method, observe = observer(method, 'unknown', '__unknown__', []))
      return observe
    }
  }
}
export type RequestMetrics = ReturnType<typeof createRequestMetrics>
