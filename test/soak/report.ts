/** Results of one kind of request. */
export interface Tally {
  statuses: Map<string, number>
  /** Milliseconds until the end of each response. */
  times: number[]
  /** Number of 200 and 304 responses with stale or missing content. */
  stale: number
  responded: number
}

/** Resources of the process at one time. */
export interface Sample {
  /** Seconds since the start of the load. */
  at: number
  /** Bytes. */
  rss: number
  heap: number
  files: number
  handles: number
}

export function quantile (values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
}

/** Returns the rows of a Markdown table. */
export function table (head: readonly string[], rows: ReadonlyArray<ReadonlyArray<string | number>>): string[] {
  const line = (cells: ReadonlyArray<string | number>) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)]
}

const mib = 1024 * 1024
const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length)

/**
 * Seconds until the process has reserved its memory, and the garbage collector has collected old objects in each part
 * of the run.
 */
const settled = 60

/** Measures of the first third after the warm-up and of the last third, with the allowed maximum of the last. */
const measures = [
  {
    name: 'RSS (mean, MiB)',
    of: (samples: Sample[]) => mean(samples.map(({ rss }) => rss)) / mib,
    allowed: (first: number, warmUp: number) => warmUp < settled ? Infinity : first * 1.15 + 32
  },
  {
    name: 'Heap used (minimum, MiB)',
    of: (samples: Sample[]) => Math.min(...samples.map(({ heap }) => heap)) / mib,
    allowed: (first: number, warmUp: number) => first * 1.2 + (warmUp < settled ? 128 : 16)
  },
  {
    name: 'Open files and sockets (maximum)',
    of: (samples: Sample[]) => Math.max(...samples.map(({ files }) => files)),
    allowed: (first: number) => first * 1.1 + 16
  },
  {
    name: 'Handles of Node.js (maximum)',
    of: (samples: Sample[]) => Math.max(...samples.map(({ handles }) => handles)),
    allowed: (first: number) => first * 1.1 + 16
  }
]

/**
 * Compares the last third of the samples after the warm-up (a quarter, up to a minute) with the first. `grown` has the
 * measures above their maximum; RSS is compared only after a warm-up of a minute.
 */
export function growth (
  samples: readonly Sample[]
): { rows: Array<[string, string, string, string]>, grown: string[] } {
  const end = samples.at(-1)?.at ?? 0
  const warmUp = Math.min(settled, end / 4)
  const third = (end - warmUp) / 3
  const first = samples.filter(({ at }) => at >= warmUp && at < warmUp + third)
  const last = samples.filter(({ at }) => at >= end - third)
  if (first.length === 0 || last.length === 0) return { rows: [], grown: ['too few samples of memory and handles'] }
  const compared = measures.map(({ name, of, allowed }) => ({
    name,
    from: of(first),
    to: of(last),
    maximum: allowed(of(first), warmUp)
  }))
  return {
    rows: compared.map((
      { name, from, to, maximum: limit }
    ) => [name, from.toFixed(0), to.toFixed(0), limit === Infinity ? 'any, in so short a time' : limit.toFixed(0)]),
    grown: compared.filter(({ to, maximum }) => to > maximum).map(({ name, from, to, maximum }) =>
      `${name} grew from ${from.toFixed(0)} to ${to.toFixed(0)}, above the maximum of ${maximum.toFixed(0)}`
    )
  }
}

/** Maximum resident memory of the process of the image under this load, in bytes. */
const maxRss = 300 * mib

/** Returns the line of the highest resident memory, and the reason if it is above its maximum. */
export function peakMemory (samples: readonly Sample[]): { line: string, reason: string | undefined } {
  const peak = Math.max(...samples.map(({ rss }) => rss))
  const line = `Peak RSS: ${(peak / mib).toFixed(0)} MiB, allowed ${maxRss / mib}.`
  return { line, reason: peak > maxRss ? line : undefined }
}

const classes = ['2xx', '3xx', '404', '429', '503', 'broken off'] as const

/** Returns the table of requests by route. */
export function routeTable (tallies: ReadonlyMap<string, Tally>): string[] {
  return table(
    ['Request', 'Number', ...classes, 'Stale', 'p50 (ms)', 'p99 (ms)'],
    [...tallies].map(([route, { statuses, times, stale, responded }]) => [
      route,
      times.length,
      ...classes.map(name => statuses.get(name) ?? 0),
      `${(100 * stale / Math.max(1, responded)).toFixed(0)} %`,
      quantile(times, 0.5).toFixed(1),
      quantile(times, 0.99).toFixed(1)
    ])
  )
}
