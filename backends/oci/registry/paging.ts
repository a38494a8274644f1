import type { Static, TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { linkTarget } from '../../../lib/link-header.ts'
import type { Upstream, UpstreamResponse } from '../../../plugins/upstream/client.ts'

/** Maximum bytes of one page of a list. */
export const pageBytes = 16 * 1024 * 1024

/** One page of a list of names. */
export interface NamesPage {
  /** Names as they were read. An element that is not a string may hide a name. */
  names: readonly unknown[]
  next?: URL
  /** Whether the response counts more names than the pages up to this one hold. */
  more?: boolean
}

/**
 * Names of all pages. `truncated` is why reading ended before the last page; `lost` is whether an announced page does
 * not exist.
 */
export interface NamesResult {
  names: string[]
  truncated: false | 'too many pages' | 'a page twice'
  lost: boolean
  /** Whether an element of the pages is not a name. */
  damaged: boolean
}

/**
 * Returns the next page by the `Link` of a response. A registry behind a proxy may name its own host with another
 * scheme: only the path counts. Throws when it leads to another host, because credentials would follow.
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

/** Returns a body in the form of its schema. Throws when it has another form. */
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

/** Maximum names that are kept of one list; a list with more is `truncated`. */
const maxNames = 100_000

/**
 * Returns whether a page without new names is the page just read: at the same address, or with the same names at
 * another address. At another address a page of exactly the requested size proves nothing: a cache that ignores the
 * query sends such a page.
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
 * Reads all pages of a list. An empty page is the last, because some servers always announce a next page; so is a page
 * that leads back to itself. Any other page without new names that announces another ends the list as incomplete. A
 * name is new if no page held it; only names that `keep` accepts are kept. `read` returns undefined for a page that
 * does not exist; this function does so for the first page. At most `most` pages are read.
 */
export async function readPages (
  first: URL,
  read: (page: URL) => Promise<NamesPage | undefined>,
  maximum: number,
  keep: (name: string) => boolean
): Promise<NamesResult | undefined> {
  const names = new Set<string>()
  let before: { address: URL, names: ReadonlySet<unknown> } = { address: first, names: new Set() }
  let damaged = false
  let next: URL | undefined = first
  for (let page = 0; next !== undefined; page++) {
    if (page === maximum || names.size > maxNames) {
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
