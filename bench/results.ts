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

/** The medians of all that was measured. */
export function toRatios (all: readonly Series[]): Ratios {
  return Object.fromEntries(all.map(series => [series.scenario, Object.fromEntries(columns.flatMap(target => {
    const { median } = ratios(perSecond(series, target), perSecond(series, 'node:http'))
    return Number.isNaN(median) ? [] : [[target, Number(median.toFixed(3))]]
  }))]))
}

/** The table that people look at: how fast each is, as a share of node:http. */
export function ratioTable (all: readonly Series[]): string[] {
  return table(
    ['', 'node:http, requests a second', ...columns],
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

/** How long requests take while each connection asks for the next thing at once. */
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
    [...upstream].map(([target, { sent, answered }]) =>
      `- ${scenario}, ${target}: ${sent} requests to the upstream for ${
        Math.round(answered).toLocaleString('en-US')
      } of clients, ${(sent / answered * 1000).toFixed(1)} for 1,000`
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

/** The whole document, as Markdown. */
export function report ({ all, command, date, machine, versions, generator, pinned, rounds, seconds }: Report): string {
  return [
    '# Requests a second, beside node:http',
    `Made by \`${command}\` on ${date}: ${machine}; ${versions}; ${generator}. ${
      pinned ? 'Server and load have one core each.' : 'Server and load share the cores.'
    } ` +
    `${connections} connections, ${rounds} ${rounds === 1 ? 'round' : 'rounds'} of ${seconds} s each (${
      Math.max(seconds, refreshingSeconds)
    } s while refreshing), one after another in turn.`,
    '`registry` is `server.ts` over a Gitea and a tree of image layouts with everything on as by default, without logs; `registry, logging` logs every ' +
    'request (not those for health, as by default). The others answer the very bytes and headers that were recorded from it: `node:http` and `Fastify` from memory, `nginx` from files.',
    'Each is the median of the ratios to node:http in the same round, with the least and the greatest.',
    ratioTable(all).join('\n'),
    '`304` is list(10) with its ETag in `If-None-Match`. `mix` is a sequence of over 1,000 distinct lists, searches and extensions by the law of Zipf; while `refreshing`, the upstream ' +
    'publishes a release a second, and a whole reading of the upstream falls into each measurement, beside the requests on the same core; by default there is one in 240 seconds.',
    '## Latency',
    'Milliseconds, median / 99th percentile, at the rates above: of servers that are as busy as they can be.',
    latencyTable(all).join('\n'),
    '## Requests to the upstream',
    upstreamLines(all).join('\n')
  ].join('\n\n') + '\n'
}
