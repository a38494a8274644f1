import type { FaultName } from './faults.ts'
import type { Outcome } from './outcomes.ts'

export const sources = ['gitea', 'oci'] as const
export type Source = typeof sources[number]
/**
 * `cold`: nothing is known when the fault begins; `warm`: everything is, and is no longer fresh when it is asked for.
 */
export const temperatures = ['cold', 'warm'] as const
export type Temperature = typeof temperatures[number]
export const questions = ['list', 'search', 'metadata', 'versions', 'download', 'health'] as const
export type UpstreamRequest = typeof questions[number]

/**
 * What is promised: one of these outcomes, within so many milliseconds, or `meanwhile` one of those as long as the
 * upstream is still being asked; or why there is nothing to promise.
 */
export type Cell = { outcomes: readonly Outcome[], bound: number, meanwhile?: readonly Outcome[] } | {
  notApplicable: string
}
type Row = Record<UpstreamRequest, Record<Temperature, Cell>>

/**
 * Milliseconds: what a client waits for upstreams at most (`server.request_budget_seconds`), and what it waits for what
 * is known.
 */
export const budget = 300
const atOnce = 100

const within = (bound: number) => (...outcomes: Outcome[]): Cell => ({ outcomes, bound })
const waiting = within(budget)
const known = within(atOnce)

/**
 * The upstream cannot be asked at all: cold answers are failures, or the others' entries; warm ones are what is known.
 */
function outage (failure: Outcome[] = ['unavailable'], file: Outcome[] = [...failure, 'unavailable']): Row {
  const part = { cold: waiting('partial', 'partialWithTwin'), warm: known('stale') }
  const whole = { cold: waiting(...failure), warm: known('stale') }
  return {
    list: part,
    search: part,
    metadata: whole,
    versions: whole,
    download: { cold: waiting(...failure), warm: waiting(...file) },
    health: { cold: known('degraded'), warm: known('degraded') }
  }
}

/** Nothing is wrong with what was asked for; what is known may be answered before it is asked for anew. */
const good = { cold: waiting('fresh'), warm: known('fresh', 'stale') }
const goodFile = { cold: waiting('fresh'), warm: waiting('fresh', 'stale') }
const fine: Row = {
  list: good,
  search: good,
  metadata: good,
  versions: good,
  download: goodFile,
  health: { cold: known('healthy'), warm: known('healthy') }
}

/** The listing alone is of no use; single extensions can be asked for. What was known before is kept. */
const unlisted = { cold: waiting('partial', 'partialWithTwin'), warm: known('stale', 'partialKept') }
/** Some rows of it are of no use: the rest is shown, and what they may have been is not known. */
const withoutSome = { cold: waiting('partialKept'), warm: known('stale', 'partialKept') }
const listingOnly: Row = {
  ...outage(),
  list: unlisted,
  search: unlisted,
  metadata: good,
  versions: good,
  download: goodFile
}
/** Bodies that end early: the file's own shows it only when its headers have been sent. */
const breaksOff = outage(['unavailable'], ['unavailable', 'broken'])
/** Nothing is wrong with the file, but so much with everything else that the upstream may be left alone. */
const ofAKnownFile = (row: Row, ...outcomes: Outcome[]): Row => ({
  ...row,
  download: { cold: row.download.cold, warm: waiting(...outcomes) }
})
/**
 * As long as the listing is not there, nothing is known of what the instance has; then it is known to have what it
 * cannot tell.
 */
const unread = {
  cold: { outcomes: ['partial'], bound: budget, meanwhile: ['partialWithTwin'] },
  warm: known('stale')
} satisfies Record<Temperature, Cell>
const oneRepository: Row = {
  ...outage(),
  list: unread,
  search: unread,
  download: { cold: waiting('unavailable'), warm: waiting('fresh', 'stale') }
}
/**
 * A walk asks a Gitea's repository only when the listing shows a change of it: where it does not, what is known is what
 * is.
 */
const oneUnchanged: Row = {
  ...oneRepository,
  list: { cold: unread.cold, warm: good.warm },
  search: { cold: unread.cold, warm: good.warm },
  metadata: { cold: oneRepository.metadata.cold, warm: good.warm },
  health: { cold: oneRepository.health.cold, warm: known('healthy') }
}
/** A page instead of the answer may be the one to log in. */
const loginPage = outage(['unavailable', 'refused'])

const both = (row: Row): Record<Source, Row> => ({ gitea: row, oci: row })

/** Every fault's row. What stands here is promised; what was observed is in `docs/fault-matrix.md`. */
export const table: Record<FaultName, Record<Source, Row>> = {
  refused: both(outage()),
  nameless: both(outage()),
  deaf: both(outage()),
  silent: both(outage()),
  stalled: both(breaksOff),
  drip: both(ofAKnownFile(outage(), 'fresh', 'stale', 'unavailable')),
  reset: both(breaksOff),
  truncated: both(breaksOff),
  limitedSeconds: both(outage(['limited'])),
  limitedDate: both(outage(['limited'])),
  error500: both(outage()),
  error502: both(outage()),
  error503: both(outage()),
  unauthorized: both(outage(['refused'])),
  forbidden: both(outage(['refused'])),
  // A registry that has never told its repositories is one of those that do not.
  listing404: {
    gitea: listingOnly,
    oci: { ...listingOnly, health: { cold: known('healthy'), warm: known('degraded') } }
  },
  repository: { gitea: oneUnchanged, oci: oneRepository },
  html: both(loginPage),
  contentType: both(ofAKnownFile(outage(), 'fresh', 'stale', 'unavailable')),
  invalidJson: both(breaksOff),
  wrongShape: both(breaksOff),
  badItems: both(ofAKnownFile(outage(), 'fresh', 'stale', 'unavailable')),
  badItem: both({ ...listingOnly, list: withoutSome, search: withoutSome }),
  huge: both(breaksOff),
  nested: both(breaksOff),
  bomb: both(breaksOff),
  redirectLoop: both(outage()),
  redirectElsewhere: both(outage()),
  redirectLinkLocal: both(outage()),
  // As long as the walk goes on, nothing is known to be wrong.
  endless: both({
    ...ofAKnownFile(outage(), 'fresh', 'stale', 'unavailable'),
    health: { cold: { outcomes: ['degraded'], bound: atOnce, meanwhile: ['healthy'] }, warm: known('degraded') }
  }),
  repeated: both(listingOnly),
  shrinking: both(listingOnly),
  clockAhead: both(fine),
  clockBack: both(fine)
}
