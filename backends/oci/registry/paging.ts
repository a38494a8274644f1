import type { Static, TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { linkTarget } from '../../../lib/link-header.ts'
import type { Upstream, UpstreamResponse } from '../../../plugins/upstream/client.ts'

/** One page of a list of names. */
export interface NamesPage {
  /** As they were read: what is no string is no name, and may hide one. */
  names: readonly unknown[]
  next?: URL
  /** Whether the answer counts more names than the pages up to this one hold. */
  more?: boolean
}

/**
 * What a walk over pages found: `truncated` when it was ended before there was no next page, `lost` when a page that
 * was announced was not there.
 */
export interface NamesResult {
  names: string[]
  truncated: false | 'too many pages' | 'a page twice'
  lost: boolean
  /** Whether something on the pages was no name at all. */
  damaged: boolean
}

/**
 * The next page by an answer's `Link`. What names the registry's host under another scheme speaks of itself behind a
 * proxy; only its path counts. Throws when it leads to another host, for credentials would follow.
 */
export function nextPage (upstream: Upstream, link: string | string[] | undefined, from: URL): { next?: URL } {
  const target = linkTarget(link, 'next')
  if (target === undefined) return {}
  const own = new URL(upstream.origin)
  const to = URL.canParse(target, from.href) ? new URL(target, from.href) : undefined
  if (
    to === undefined || !/^https?:$/.test(to.protocol) || to.host !== own.host || to.username !== '' ||
    to.password !== ''
  ) {
    throw upstream.unexpected('Next page is on another host', 'http_protocol_error')
  }
  return { next: new URL(to.pathname + to.search, own) }
}

/** A body in the form that its schema has. */
export function checked<T extends TSchema> (
  upstream: Upstream,
  schema: T,
  headers: UpstreamResponse['headers'],
  body: Buffer
): Static<T> {
  const value = upstream.parse(headers, body)
  if (!Value.Check(schema, value)) {
    throw upstream.unexpected('Response has an unexpected structure', 'http_protocol_error')
  }
  return value
}

/** Names kept of one walk; what lies beyond is not held in memory, and makes the answer `truncated`. */
const maxNames = 100_000

/**
 * Whether a page that holds nothing new is the page just read: at the same address, or with the same names at another
 * one. At another address a page of exactly the requested size proves nothing: a cache that ignores the query sends
 * such a one.
 */
function isPageJustRead (
  page: NamesPage,
  address: URL,
  before: { address: URL, names: ReadonlySet<unknown> }
): boolean {
  if (page.more === true) return false
  if (address.href === before.address.href) return true
  const names = new Set(page.names)
  const size = address.searchParams.get('n') ?? address.searchParams.get('page_size')
  return names.size === before.names.size && [...names].every(name => before.names.has(name)) &&
    Number(size ?? 0) !== page.names.length
}

/**
 * Reads pages until there is no next one. An empty page is the last, since some servers announce a next one for ever;
 * so is a page that leads back to itself. Any other page that holds nothing new and announces another ends the walk as
 * incomplete. A name is new if no page held it; only names that `keep` takes are kept. `read` returns undefined for a
 * page that is not there; so does this for the first one. At most `most` pages are read.
 */
export async function readPages (
  first: URL,
  read: (page: URL) => Promise<NamesPage | undefined>,
  most: number,
  keep: (name: string) => boolean
): Promise<NamesResult | undefined> {
  const names = new Set<string>()
  let before: { address: URL, names: ReadonlySet<unknown> } = { address: first, names: new Set() }
  let damaged = false
  let next: URL | undefined = first
  for (let page = 0; next !== undefined; page++) {
    if (page === most || names.size > maxNames) {
      return { names: [...names], truncated: 'too many pages', lost: false, damaged }
    }
    const address: URL = next
    const found: NamesPage | undefined = await read(address)
    if (found === undefined) {
      return page === 0
        ? undefined
        : { names: [...names], truncated: false, lost: true, damaged }
    }
    const fresh = found.names.some(name => !before.names.has(name) && !(typeof name === 'string' && names.has(name)))
    if (!fresh && found.names.length > 0 && found.next !== undefined) {
      return {
        names: [...names],
        truncated: isPageJustRead(found, address, before) ? false : 'a page twice',
        lost: false,
        damaged
      }
    }
    for (const name of found.names) {
      if (typeof name !== 'string') damaged = true
      else if (keep(name)) names.add(name)
    }
    before = { address, names: new Set(found.names) }
    next = fresh ? found.next : undefined
  }
  return { names: [...names], truncated: false, lost: false, damaged }
}
