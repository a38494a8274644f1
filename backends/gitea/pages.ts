import pLimit from 'p-limit'
import { isRegistryError, type RegistryError } from '../../lib/errors.ts'
import { linkTarget } from '../../lib/link-header.ts'
import type { JsonResponse, Upstream } from '../../plugins/upstream/client.ts'

/**
 * Elements of a page, the largest number first: what an unchanged Gitea or Forgejo gives at most (`[api]
 * MAX_RESPONSE_ITEMS`). Each is a multiple of the next, so that a page can be read in parts.
 */
const pageSizes = [50, 25, 5, 1] as const
type PageSize = typeof pageSizes[number]
/** Pages read of one list; a server that numbers more is not believed. */
const maxPages = 400
/** Bytes read of one list, all pages together. */
const maxRead = 512 * 1024 * 1024
/**
 * Characters that are kept of one list, as JSON: release notes and the like are dropped from each page when it is read.
 */
const maxKept = 64 * 1024 * 1024

/** Bytes that are read of a single element to learn whether the server obeys `limit`. */
const probeBytes = 4 * 1024 * 1024

/** Stands in a list for an element that is too large to be read. */
export const tooLargeRow: object = Object.freeze({})

/** The pages of a list; `steady` when all of them told the same total, so that nothing moved between them. */
export interface PagesResult { bodies: unknown[], steady: boolean }
type NotFound = Exclude<JsonResponse['kind'], 'found'>
type RowsPage = Extract<JsonResponse, { kind: 'found' }>

/**
 * Thrown where a page that is too large cannot be read in parts, for the server's own pages are smaller than requested.
 */
class InexactPages extends Error {}

const rowsOf = (body: unknown): number => Array.isArray(body) ? body.length : 0
/** What tells a page from others: the ids of its rows. */
const identityOf = (body: unknown): string =>
  JSON.stringify(
    body,
    (key, value: unknown) =>
      key !== '' && typeof value === 'object' && value !== null && 'id' in value ? value.id : value
  )
const totalOf = ({ headers }: Pick<RowsPage, 'headers'>): number => Number(headers['x-total-count'] ?? 0)

/** Returns the number of the last page by `Link`. Its address is not used: servers build it on a name of their own. */
function lastPage (link: string | string[] | undefined): number | undefined {
  const page = /[?&]page=(\d{1,9})/.exec(linkTarget(link, 'last') ?? '')?.[1]
  return page === undefined ? undefined : Number(page)
}

const smallerThan = (size: PageSize): PageSize | undefined => pageSizes[pageSizes.indexOf(size) + 1]

export interface PagesOptions {
  /** Most pages that are requested at once. */
  atOnce: number
  /** Makes the error for an answer that cannot be used. */
  failed: (details: string) => RegistryError
}

/** Reads lists of Gitea page by page; a page that is too large is read in smaller ones. */
export function createPages (upstream: Pick<Upstream, 'address' | 'json'>, { atOnce, failed }: PagesOptions) {
  const few = pLimit(atOnce)

  /** Reads one page; undefined when it is larger than `most` bytes, or than any JSON may be. */
  async function readPage (
    parts: readonly string[],
    query: Record<string, string | number>,
    most?: number
  ): Promise<JsonResponse | undefined> {
    try {
      return await upstream.json(upstream.address(parts, query), undefined, most)
    } catch (error) {
      if (isRegistryError(error) && error.proxyError === 'http_response_body_size') return undefined
      throw error
    }
  }

  /**
   * Reads every page of a list once: the first one tells how many there are. A short page is no last page, for what a
   * caller may not see is left out of it.
   */
  async function walk (
    parts: readonly string[],
    query: Record<string, string | number>,
    fields: readonly string[],
    base: PageSize
  ): Promise<PagesResult | NotFound> {
    const totals = new Set<number>()
    let [read, kept, over] = [0, 0, false]

    /** One page with the fields that are used; undefined when it is too large. */
    async function page (number: number, size: PageSize): Promise<JsonResponse | undefined> {
      if (over) throw failed('Answer is too large')
      const answer = await readPage(parts, { ...query, limit: size, page: number })
      if (answer?.kind !== 'found') return answer
      const body = slim(answer.body, fields)
      read += answer.size
      kept += JSON.stringify(body)?.length ?? 0
      if (read > maxRead || kept > maxKept) throw failed('Answer is too large')
      totals.add(totalOf(answer))
      return { ...answer, body }
    }

    /** The first page. Of one element that is too large by itself the next page shows how many there are. */
    async function firstPage (): Promise<JsonResponse | undefined> {
      const first = await few(async () => await page(1, base))
      if (first !== undefined || base > 1) return first
      const second = await few(async () => await page(2, base))
      if (second === undefined) throw failed('Answer is too large')
      return second.kind === 'found' ? { ...second, body: [tooLargeRow] } : second
    }

    const first = await firstPage()
    if (first === undefined) throw new InexactPages()
    if (first.kind !== 'found') return first.kind
    const total = totalOf(first)
    const last = lastPage(first.headers.link)
    const count = last ?? (total > base && rowsOf(first.body) >= base ? Math.ceil(total / base) : 1)
    if (count > maxPages) throw failed('Answer has too many pages')
    const exact = total > 0 && rowsOf(first.body) === Math.min(base, total)

    /** A page, or the smaller ones that it consists of. */
    async function pagesOf (number: number, size: PageSize): Promise<unknown[]> {
      const answer = await few(async () => await page(number, size))
      if (answer !== undefined) {
        if (answer.kind !== 'found') throw failed('Answer lost a page')
        return [answer.body]
      }
      const smaller = smallerThan(size)
      if (smaller === undefined) return [[tooLargeRow]]
      if (!exact) {
        over = true
        throw new InexactPages()
      }
      const [from, to] = [(number - 1) * size / smaller, Math.min(number * size / smaller, Math.ceil(total / smaller))]
      const read = await Promise.all(
        Array.from({ length: Math.max(0, to - from) }, async (_, at) => await pagesOf(from + at + 1, smaller))
      )
      return read.flat()
    }

    const bodies = [
      first.body,
      ...(await Promise.all(Array.from({ length: count - 1 }, async (_, at) => await pagesOf(at + 2, base)))).flat()
    ]
    // A server of small pages behind a proxy that drops or damages Link says no more than this: there is more.
    const announced = last === undefined ? total : 0
    const uncounted = last === undefined && total === 0
    let seen = bodies.reduce<number>((sum, page) => sum + rowsOf(page), 0)
    // Where the proxy drops the total as well, a full page may not be the last.
    let full = uncounted && seen >= base
    for (let number = count + 1; seen < announced || full; number++) {
      if (number > maxPages) {
        if (full) throw failed('Answer has too many pages')
        break
      }
      const next = await pagesOf(number, base)
      const rows = next.reduce<number>((sum, page) => sum + rowsOf(page), 0)
      if (rows === 0) break
      bodies.push(...next)
      seen += rows
      full = uncounted && rows >= base
    }
    const identities = bodies.filter(body => Array.isArray(body) && body.some(row => row !== tooLargeRow)).map(
      identityOf
    )
    if (new Set(identities).size < identities.length) throw failed('Answer has a page twice')
    return { bodies, steady: totals.size === 1 }
  }

  /**
   * Throws when pages of one element are too large as well: the server ignores `limit`, and each smaller size would
   * cost as much again. Two elements are read, since one of them may be too large by itself.
   */
  async function mustGetSmaller (parts: readonly string[], query: Record<string, string | number>): Promise<void> {
    for (const page of [2, 1]) if (await readPage(parts, { ...query, limit: 1, page }, probeBytes) !== undefined) return
    throw failed('Answer is too large')
  }

  /** The same with pages as large as the answers allow. */
  async function walkInSteps (
    parts: readonly string[],
    query: Record<string, string | number>,
    fields: readonly string[]
  ): Promise<PagesResult | NotFound> {
    for (const size of pageSizes) {
      try {
        return await walk(parts, query, fields, size)
      } catch (error) {
        if (!(error instanceof InexactPages)) throw error
        if (size === pageSizes[0]) await mustGetSmaller(parts, query)
      }
    }
    throw failed('Answer is too large')
  }

  /**
   * Returns every page of a list, with `fields` and the id of each row. What changed while it was read is read once
   * more. A row that is too large to be read is `tooLargeRow`.
   */
  return async function pages (
    parts: readonly string[],
    fields: readonly string[],
    query: Record<string, string | number> = {}
  ): Promise<PagesResult | NotFound> {
    const once = await walkInSteps(parts, query, fields)
    return typeof once === 'string' || once.steady ? once : await walkInSteps(parts, query, fields)
  }
}

/** Drops the fields that are not used from each row of a page. */
function slim (body: unknown, fields: readonly string[]): unknown {
  if (!Array.isArray(body)) return body
  return body.map((row: unknown) =>
    typeof row !== 'object' || row === null || Array.isArray(row)
      ? row
      : Object.fromEntries(['id', ...fields].flatMap(field =>
        field in row ? [[field, (row as Record<string, unknown>)[field]] as const] : []
      ))
  )
}
