import { table } from '../test/soak/report.ts'
import { connections } from './generator.ts'
import type { Ratios } from './guard.ts'
import type { Series } from './measurement.ts'
import { median, ratios, type Spread } from './statistics.ts'
import { refreshingSeconds, type TargetName } from './targets.ts'

const columns: readonly TargetName[] = ['registry', 'registry, logging', 'Fastify', 'nginx']
const perSecond = (series: Series, target: TargetName): number[] =>
  series.measured.get(target)?.map(measured => measured.perSecond) ?? []

function ratio ({ median, least, greatest }: Spread): string {
  if (Number.isNaN(median)) return ''
  return least === greatest ? median.toFixed(2) : `${median.toFixed(2)} (${least.toFixed(2)}–${greatest.toFixed(2)})`
}

/** Returns the median ratios of all measurements. */
export function toRatios (all: readonly Series[]): Ratios {
  return Object.fromEntries(all.map(series => [series.scenario, Object.fromEntries(columns.flatMap(target => {
    const { median } = ratios(perSecond(series, target), perSecond(series, 'node:http'))
    return Number.isNaN(median) ? [] : [[target, Number(median.toFixed(3))]]
  }))]))
}

/** Returns the table of ratios to node:http. */
export function ratioTable (all: readonly Series[]): string[] {
  return table(
    ['', 'node:http, requests per second', ...columns],
    all.map(series => {
      const base = perSecond(series, 'node:http')
      return [
        series.scenario,
        Math.round(median(base)).toLocaleString('en-US'),
        ...columns.map(target => ratio(ratios(perSecond(series, target), base)))
      ]
    })
  )
}

/** Returns the table of latencies while each connection sends its next request immediately. */
function latencyTable (all: readonly Series[]): string[] {
  const shown: readonly TargetName[] = ['node:http', ...columns]
  return table(
    ['', ...shown],
    all.map(({ scenario, measured }) => [
      scenario,
      ...shown.map(target => {
        const values = measured.get(target) ?? []
        return values.length === 0
          ? ''
          : `${median(values.map(({ p50 }) => p50)).toFixed(1)} / ${median(values.map(({ p99 }) => p99)).toFixed(1)}`
      })
    ])
  )
}

function upstreamLines (all: readonly Series[]): string[] {
  return all.flatMap(({ scenario, upstream }) =>
    [...upstream].map(([target, { sent, completed }]) =>
      `- ${scenario}, ${target}: ${sent} requests to the upstream for ${
        Math.round(completed).toLocaleString('en-US')
      } client requests, ${(sent / completed * 1000).toFixed(1)} per 1,000`
    )
  )
}

export interface Report {
  all: readonly Series[]
  command: string
  date: string
  machine: string
  versions: string
  generator: string
  pinned: boolean
  rounds: number
  seconds: number
}

/** Returns the measured part `requests` of docs/performance.md, as Markdown. */
export function report ({ all, command, date, machine, versions, generator, pinned, rounds, seconds }: Report): string {
  return [
    `Measured by \`${command}\` on ${date}: ${machine}; ${versions}; ${generator}. ${
      pinned ? 'Server and load have one core each.' : 'Server and load share the cores.'
    } ` +
    `${connections} connections, ${rounds} ${rounds === 1 ? 'round' : 'rounds'} of ${seconds} s each (${
      Math.max(seconds, refreshingSeconds)
    } s while refreshing), in turn.`,
    ratioTable(all).join('\n'),
    '### Latency under full load',
    'Milliseconds, median / 99th percentile, at the rates above.',
    latencyTable(all).join('\n'),
    '### Requests to the upstream',
    upstreamLines(all).join('\n')
  ].join('\n\n')
}
