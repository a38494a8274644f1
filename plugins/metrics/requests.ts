import client, { type Registry } from '@prometheus-io/client'

/** Bounds of the duration histograms, in seconds. */
export const durationBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** Methods whose requests are counted and not timed: what they are asked for is no work. */
const untimed = new Set(['HEAD', 'OPTIONS', 'TRACE', 'CONNECT'])

const labelNames = ['method', 'route', 'status'] as const
type Labels = Record<typeof labelNames[number], string>

/** How long answers took: how many came within each bound and not within the one before it, and all their seconds. */
interface Times { labels: Labels, within: Float64Array, count: number, sum: number }

const durationMetric = { name: 'http_request_duration_seconds', help: 'HTTP request duration' }

/**
 * A histogram that is counted here and written by the library: `observer` is the only way in, and nothing resets it.
 * The library's own `observe` checks the labels and looks them up for each request, and takes tens of times as long.
 */
class Durations extends client.Histogram<typeof labelNames[number]> {
  readonly #series: Times[] = []

  /** Gives what observes seconds under these labels. */
  observer (labels: Labels): (seconds: number) => void {
    const times: Times = { labels, within: new Float64Array(durationBuckets.length + 1), count: 0, sum: 0 }
    this.#series.push(times)
    return seconds => {
      let bound = 0
      while (bound < durationBuckets.length && seconds > (durationBuckets[bound] as number)) bound++
      times.within[bound] = (times.within[bound] as number) + 1
      times.count++
      times.sum += seconds
    }
  }

  /** What the library makes its text of. */
  async getForPromString () {
    const { name } = durationMetric
    const values = this.#series.flatMap(({ labels: sharedLabels, within, count, sum }) => {
      let upTo = 0
      const buckets = [...durationBuckets, '+Inf'].map((le, bound) => {
        upTo += within[bound] as number
        return { metricName: `${name}_bucket`, labels: { le }, sharedLabels, value: upTo }
      })
      return [
        ...buckets,
        { metricName: `${name}_sum`, labels: {}, sharedLabels, value: sum },
        { metricName: `${name}_count`, labels: {}, sharedLabels, value: count }
      ]
    })
    return { ...durationMetric, type: 'histogram', aggregator: 'sum', values }
  }
}

/** What is known of one method, route and status. */
interface Series { labels: Labels, count: number, observe: ((seconds: number) => void) | undefined }

/** Told of each answer: its status, and the milliseconds that it took. */
export type ObserveResponse = (status: number, milliseconds: number) => void

/**
 * Counts and times answers. Labels are looked up once for each method, route and status, and not again for each
 * request.
 */
export function createRequestMetrics (register: Registry) {
  const series: Series[] = []
  const registers = [register]
  const duration = new Durations({ ...durationMetric, labelNames, buckets: durationBuckets, registers })
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

  /**
   * Observes the answers of a route to one method, timed under a name that may be another. Series of `usual` statuses
   * are there from the start, so that rates are right from the first request on.
   */
  function observer (
    method: string,
    route: string,
    timedAs: string | undefined,
    usual: readonly number[]
  ): ObserveResponse {
    const durationRoute = untimed.has(method) ? undefined : timedAs
    const byStatus: Array<Series | undefined> = []
    function of (status: number): Series {
      const known = byStatus[status]
      if (known !== undefined) return known
      const made: Series = { labels: { method, route, status: String(status) }, count: 0, observe: undefined }
      if (durationRoute !== undefined) made.observe = duration.observer({ ...made.labels, route: durationRoute })
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

  const unrouted = new Map<string, ObserveResponse>()
  return {
    /** The observer of a route, by its pattern: those are bounded in number, paths are not. */
    route: (method: string, pattern: string, timed: boolean): ObserveResponse =>
      // A route for preflights never responds with 200.
      observer(method, pattern, timed ? pattern : undefined, method === 'OPTIONS' ? [] : [200]),

    /** The observer of all that has no route. */
    unrouted (method: string): ObserveResponse {
      let observe = unrouted.get(method)
      if (observe === undefined) unrouted.set(method, observe = observer(method, 'unknown', '__unknown__', []))
      return observe
    }
  }
}
export type RequestMetrics = ReturnType<typeof createRequestMetrics>
