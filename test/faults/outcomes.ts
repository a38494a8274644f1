import type { UpstreamRequest, Temperature } from './table.ts'

/** Response as a client observed it. */
export interface Observation {
  status: number
  headers: Record<string, string | undefined>
  body: Buffer
  /** True if the body is complete according to its headers or framing. */
  complete: boolean
  /** Milliseconds until the end of the response; for a download, until its headers. */
  took: number
}

/** Names that the whole matrix uses. */
export const instance = 'upstream'
export const twinVersion = '9.9.9'
export const version = '1.2.0'
/** Content of the downloaded file, and of its twin. */
export const content = 'the file of vault 1.2.0'
export const twinContent = 'a twin of lower trust'

interface Form { label: string, headers: Record<string, RegExp> }

const whole = { 'cache-control': /^public, max-age=/, 'x-cache-hit': /^(?:true|false)$/ }
const marked = { 'cache-control': /^no-cache(?:, no-transform)?$/, 'x-cache-ttl': /^0$/ }
const failed = { 'cache-control': /^no-store$/, 'proxy-status': new RegExp(`^${instance}; error=`) }

/**
 * Outcomes that can be promised, each with its label in the document and its required headers. The first request for an
 * expired entry may wait for an upstream whose failure is unknown, up to the limit of the cell.
 */
const forms = {
  fresh: { label: '200', headers: whole },
  stale: {
    label: '200 stale',
    headers: {
      ...marked,
      'cache-status': new RegExp(`(?:^|, )${instance}; hit; detail=stale`),
      'x-cache-hit': /^(?:true|false)$/
    }
  },
  partial: {
    label: '200 partial',
    headers: { ...marked, 'x-partial': new RegExp(`^${instance}$`), 'proxy-status': new RegExp(`^${instance}; error=`) }
  },
  partialWithTwin: {
    label: '200 partial, with the twin',
    headers: { ...marked, 'x-partial': new RegExp(`^${instance}$`), 'proxy-status': new RegExp(`^${instance}; error=`) }
  },
  partialKept: {
    label: '200 partial, known entries kept',
    headers: { ...marked, 'x-partial': new RegExp(`^${instance}$`), 'proxy-status': new RegExp(`^${instance}; error=`) }
  },
  healthy: { label: '200 healthy', headers: { 'cache-control': /^no-store$/ } },
  degraded: { label: '200 degraded', headers: { 'cache-control': /^no-store$/ } },
  unavailable: { label: '503 service_unavailable', headers: { ...failed, 'retry-after': /^[1-9]\d*$/ } },
  limited: { label: '429 rate_limit', headers: { ...failed, 'retry-after': /^[1-6]$/ } },
  refused: { label: '401 auth_error', headers: failed },
  broken: { label: 'broken transfer', headers: { 'content-length': /^\d+$/ } }
} satisfies Record<string, Form>
export type Outcome = keyof typeof forms
const outcomes = Object.keys(forms) as Outcome[]

export const labelOf = (outcome: Outcome): string => forms[outcome].label

interface Entry { type?: string, name?: string, version?: string, source?: string }

function parsed (body: Buffer): unknown {
  try {
    return JSON.parse(body.toString())
  } catch {
    return undefined
  }
}

const isTwin = (entry: Entry | undefined) => entry?.version === twinVersion

/** Returns the details of a 200: the owner of the entry, and its marks. */
function ofSuccess (operation: UpstreamRequest, { headers, body }: Observation): string {
  const value = parsed(body)
  if (operation === 'health') return ` ${String((value as { status?: string } | undefined)?.status)}`
  const stale = headers['cache-status']?.includes(`${instance}; hit; detail=stale`) === true ? ' stale' : ''
  const partial = headers['x-partial'] === undefined ? '' : ' partial'
  if (operation === 'download') {
    return stale + (body.toString() === content ? '' : body.toString() === twinContent ? ', of the twin' : ', damaged')
  }
  if (operation === 'metadata') return stale + (isTwin(value as Entry) ? ', of the twin' : '')
  if (operation === 'versions') {
    const versions = value as Entry[]
    return stale + (versions.some(isTwin) ? ', of the twin' : versions.length === 3 ? '' : ', not all')
  }
  const entries = (value as Entry[]).filter(({ type, name }) => type === 'taskserv' && name === 'vault')
  if (entries.some(isTwin)) return `${stale}${partial}, with the twin`
  if (partial !== '') return entries.length === 0 ? ' partial' : ' partial, known entries kept'
  return entries.length === 0 ? `${stale}, without the entry` : stale
}

/** Returns the label of an observation, as in the promises and the document. */
export function describe (operation: UpstreamRequest, observation: Observation | undefined): string {
  if (observation === undefined) return 'no response'
  if (!observation.complete) return 'broken transfer'
  const { status, body } = observation
  if (status === 200) return `200${ofSuccess(operation, observation)}`
  return `${status} ${String((parsed(body) as { error?: string } | undefined)?.error)}`
}

/** Returns the required headers that the observation lacks, and inner addresses in its body. */
export function faultsOf (
  operation: UpstreamRequest,
  temperature: Temperature,
  observation: Observation | undefined
): string[] {
  if (observation === undefined) return []
  const outcome = outcomes.find(candidate => labelOf(candidate) === describe(operation, observation))
  const expected: Record<string, RegExp> = outcome === undefined ? {} : { ...forms[outcome].headers }
  // A download always waits for the bytes of its file, so X-Cache-Hit may have either value.
  if (operation === 'download') delete expected['x-cache-hit']
  else if (temperature === 'warm' && outcome === 'fresh') expected['x-cache-hit'] = /^true$/
  const problems = Object.entries(expected).filter(([name, value]) => !value.test(observation.headers[name] ?? '')).map(
    (
      [name]
    ) => `${name}: ${String(observation.headers[name])}`
  )
  const addresses = observation.status >= 400 && /127\.0\.0\.1|169\.254|\.invalid/.test(observation.body.toString())
  return addresses ? [...problems, 'an inner address in the body'] : problems
}
