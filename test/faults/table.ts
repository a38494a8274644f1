import type { FaultName } from './faults.ts'
import type { Outcome } from './outcomes.ts'

export const sources = ['gitea', 'oci'] as const
export type Source = typeof sources[number]
/** `cold`: the caches are empty when the fault begins; `warm`: they are filled, and expired at the request. */
export const temperatures = ['cold', 'warm'] as const
export type Temperature = typeof temperatures[number]
export const operations = ['list', 'search', 'metadata', 'versions', 'download', 'health'] as const
export type UpstreamRequest = typeof operations[number]

/**
 * Promise of a cell: one of these outcomes within `limit` milliseconds, or the reason for a cell without a promise.
 * While loads are in progress, an outcome of `meanwhile` is permitted too.
 */
export type Cell = { outcomes: readonly Outcome[], limit: number, meanwhile?: readonly Outcome[] } | {
  notApplicable: string
}
type Row = Record<UpstreamRequest, Record<Temperature, Cell>>

/**
 * Milliseconds: the maximum wait for upstreams (`server.request_budget_seconds`), and the maximum wait for known data.
 */
export const budget = 900
const atOnce = 100

const within = (limit: number) => (...outcomes: Outcome[]): Cell => ({ outcomes, limit })
const waiting = within(budget)
const known = within(atOnce)

/**
 * Returns the row of an unavailable upstream: cold requests fail or return entries of other instances, warm requests
 * return known data.
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

/** Cells of data without a fault; known data may be returned before it is refreshed. */
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

/** Cells of an unusable listing: single extensions can be requested, and known entries are kept. */
const unlisted = { cold: waiting('partial', 'partialWithTwin'), warm: known('stale', 'partialKept') }
/**
 * Cells of a listing with some unusable rows: the other rows are shown, and the names in the unusable rows are unknown.
 */
const withoutSome = { cold: waiting('partialKept'), warm: known('stale', 'partialKept') }
const listingOnly: Row = {
  ...outage(),
  list: unlisted,
  search: unlisted,
  metadata: good,
  versions: good,
  download: goodFile
}
/** Row of bodies that end early: for a file this is known only after its headers are sent. */
const breaksOff = outage(['unavailable'], ['unavailable', 'broken'])
/**
 * Returns the row with these outcomes for a warm download: its file is valid, but other failures may block the
 * upstream.
 */
const ofAKnownFile = (row: Row, ...outcomes: Outcome[]): Row => ({
  ...row,
  download: { cold: row.download.cold, warm: waiting(...outcomes) }
})
/**
 * Cells of a list with one unreadable repository. Before the first listing the extensions of the instance are unknown;
 * afterwards one of them is known without its metadata.
 */
const unread = {
  cold: { outcomes: ['partial'], limit: budget, meanwhile: ['partialWithTwin'] },
  warm: known('stale')
} satisfies Record<Temperature, Cell>
const oneRepository: Row = {
  ...outage(),
  list: unread,
  search: unread,
  download: { cold: waiting('unavailable'), warm: waiting('fresh', 'stale') }
}
/**
 * Row for Gitea: a crawl requests a repository only if the listing shows a change. Without a change the known data is
 * current.
 */
const oneUnchanged: Row = {
  ...oneRepository,
  list: { cold: unread.cold, warm: good.warm },
  search: { cold: unread.cold, warm: good.warm },
  metadata: { cold: oneRepository.metadata.cold, warm: good.warm },
  health: { cold: oneRepository.health.cold, warm: known('healthy') }
}
/** An HTML page instead of a response may be a login page. */
const loginPage = outage(['unavailable', 'refused'])

const both = (row: Row): Record<Source, Row> => ({ gitea: row, oci: row })

/** Promised row of every fault; the observed outcomes are in `docs/fault-matrix.md`. */
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
  // A registry that returns 404 and never listed its repositories counts as one without a catalog.
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
  // The failure is unknown until the crawl ends.
  endless: both({
    ...ofAKnownFile(outage(), 'fresh', 'stale', 'unavailable'),
    health: { cold: { outcomes: ['degraded'], limit: atOnce, meanwhile: ['healthy'] }, warm: known('degraded') }
  }),
  repeated: both(listingOnly),
  shrinking: both(listingOnly),
  clockAhead: both(fine),
  clockBack: both(fine)
}
