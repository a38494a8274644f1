import pLimit, { type LimitFunction } from 'p-limit'
import { isRegistryError, type RegistryError } from '../../lib/errors.ts'
import type { JsonResponse, Upstream } from '../../plugins/upstream/client.ts'
import { linkTarget } from '../../lib/link-header.ts'

/**
 * Numbers of rows of a page, the largest first: the default maximum of Gitea and Forgejo (`[api] MAX_RESPONSE_ITEMS`).
 * Each is a multiple of the next, so that a page can be read in parts.
 */
const pageSizes = [50, 25, 5, 1] as const
type PageSize = typeof pageSizes[number]

/** Returns the next smaller page size; undefined for the smallest. */
const smallerThan = (size: PageSize): PageSize | undefined => pageSizes[pageSizes.indexOf(size) + 1]

/** Replaces a row that is too large to be read. */
export const tooLargeRow: object = Object.freeze({})

/** A page that exists. */
type RowsPage = Extract<JsonResponse, { kind: 'found' }>

const rowCount = (body: unknown): number => Array.isArray(body) ? body.length : 0

/** Returns the number of rows of the whole list (`X-Total-Count`); 0 when the server does not send it. */
const totalOf = ({ headers }: Pick<RowsPage, 'headers'>): number => Number(headers['x-total-count'] ?? 0)

/**
 * Returns the number of the last page by `Link`. The address in it is not used, since servers build it with a host name
 * of their own.
 */
function lastPage ({ headers: { link } }: Pick<RowsPage, 'headers'>): number | undefined {
  const page = /[?&]page=(\d{1,9})/.exec(linkTarget(link, 'last') ?? '')?.[1]
  return page === undefined ? undefined : Number(page)
}

/** Returns a page without the fields that are not used; each row keeps `id` and `fields`. */
function slimPage (body: unknown, fields: readonly string[]): unknown {
  if (!Array.isArray(body)) return body
  return body.map((row: unknown) =>
    typeof row !== 'object' || row === null || Array.isArray(row)
      ? row
      : Object.fromEntries(['id', ...fields].flatMap(field =>
        field in row ? [[field, (row as Record<string, unknown>)[field]] as const] : []
      ))
  )
}

/** Returns a text that is equal for pages with equal rows, by the ids of the rows. */
const pageKey = (body: unknown): string =>
  JSON.stringify(
    body,
    (key, value: unknown) =>
      key !== '' && typeof value === 'object' && value !== null && 'id' in value ? value.id : value
  )

/** Returns whether two of the pages are the same. Pages of rows that are too large to be read are not compared. */
function hasRepeatedPage (bodies: readonly unknown[]): boolean {
  const keys = bodies.filter(body => Array.isArray(body) && body.some(row => row !== tooLargeRow)).map(pageKey)
  return new Set(keys).size < keys.length
}

/** Maximum number of pages read of one list; more announced pages are an error. */
const maxPages = 400
/** Maximum number of bytes read of one list, all pages together. */
const maxReadBytes = 512 * 1024 * 1024
/** Maximum number of characters kept of one list, as JSON without the fields that are not used. */
const maxKeptChars = 64 * 1024 * 1024
/** Maximum number of bytes read of a single row to learn whether the server obeys `limit`. */
const maxProbeBytes = 4 * 1024 * 1024

/** The pages of a list; `steady` when all of them had the same total, so that no row moved between them. */
export interface PagesResult { bodies: unknown[], steady: boolean }
type NotFound = Exclude<JsonResponse['kind'], 'found'>

/**
 * Thrown where a page that is too large cannot be read in parts, because the server's own pages are smaller than
 * requested.
 */
class InexactPages extends Error {}

export interface PagesOptions {
  /** Maximum number of pages that are requested at the same time. */
  concurrency: number
  /** Creates the error for a response that cannot be used. */
  unexpected: (details: string) => RegistryError
}

type PageQuery = Record<string, string | number>

/** A list of the API: the parts of its path, the parameters of its query, and the fields that are used of each row. */
interface List { parts: readonly string[], query: PageQuery, fields: readonly string[] }

/** Reads one page of a list; undefined when it is too large. */
type ReadPage = (page: number, size: PageSize) => Promise<JsonResponse | undefined>

/** Creates the reader of Gitea's lists, page by page; a page that is too large is read in smaller ones. */
export function createPages (
  upstream: Pick<Upstream, 'address' | 'json'>,
  { concurrency, unexpected }: PagesOptions
) {
  const limit = pLimit(concurrency)

  /** Reads one page; undefined when it is larger than `maxBytes`, or than the maximum size of JSON. */
  async function fetchPage (
    { parts, query }: List,
    page: number,
    size: PageSize,
    maxBytes?: number
  ): Promise<JsonResponse | undefined> {
    try {
      return await upstream.json(upstream.address(parts, { ...query, limit: size, page }), undefined, maxBytes)
    } catch (error) {
      if (isRegistryError(error) && error.proxyError === 'http_response_body_size') return undefined
      throw error
    }
  }

  /** Creates the function that reads the pages of one list, within the limits of a whole list. */
  function createReader (list: List): { readPage: ReadPage, totals: ReadonlySet<number> } {
    const totals = new Set<number>()
    let [readBytes, keptChars] = [0, 0]
    async function readPage (page: number, size: PageSize): Promise<JsonResponse | undefined> {
      const response = await fetchPage(list, page, size)
      if (response?.kind !== 'found') return response
      const body = slimPage(response.body, list.fields)
      readBytes += response.size
      keptChars += JSON.stringify(body)?.length ?? 0
      if (readBytes > maxReadBytes || keptChars > maxKeptChars) throw unexpected('Response is too large')
      totals.add(totalOf(response))
      return { ...response, body }
    }
    return { readPage, totals }
  }

  /**
   * Reads the first page. Where a single row is too large, the second page shows how many rows there are.
   */
  async function readFirst (readPage: ReadPage, base: PageSize): Promise<JsonResponse> {
    const first = await limit(async () => await readPage(1, base))
    if (first !== undefined) return first
    if (base > 1) throw new InexactPages()
    const second = await limit(async () => await readPage(2, base))
    if (second === undefined) throw unexpected('Response is too large')
    return second.kind === 'found' ? { ...second, body: [tooLargeRow] } : second
  }

  /**
   * Reads every page of a list once, with pages of `base` rows. A short page need not be the last one, since rows that
   * the credentials may not see are missing in it.
   */
  async function readList (list: List, base: PageSize): Promise<PagesResult | NotFound> {
    const { readPage, totals } = createReader(list)
    const first = await readFirst(readPage, base)
    if (first.kind !== 'found') return first.kind
    const count = pageCount(first, base)
    if (count > maxPages) throw unexpected('Response has too many pages')
    const total = totalOf(first)
    const readParts = createPartsReader(readPage, {
      limit,
      unexpected,
      exact: total > 0 && rowCount(first.body) === Math.min(base, total),
      total
    })
    const others = await Promise.all(
      Array.from({ length: count - 1 }, async (_, index) => await readParts(index + 2, base))
    )
    const bodies = [first.body, ...others.flat()]
    if (lastPage(first) === undefined) await readUncounted(bodies, { base, count, total, readParts, unexpected })
    if (hasRepeatedPage(bodies)) throw unexpected('Response has a page twice')
    return { bodies, steady: totals.size === 1 }
  }

  /**
   * Throws when pages of one row are too large as well: the server ignores `limit`, and each smaller size would be as
   * large. Two rows are read, since one of them may itself be too large.
   */
  async function mustObeyLimit (list: List): Promise<void> {
    for (const page of [2, 1]) if (await fetchPage(list, page, 1, maxProbeBytes) !== undefined) return
    throw unexpected('Response is too large')
  }

  /** Reads every page of a list, with pages as large as the limits on a response allow. */
  async function readInSteps (list: List): Promise<PagesResult | NotFound> {
    for (const size of pageSizes) {
      try {
        return await readList(list, size)
      } catch (error) {
        if (!(error instanceof InexactPages)) throw error
        if (size === pageSizes[0]) await mustObeyLimit(list)
      }
    }
    throw unexpected('Response is too large')
  }

  /**
   * Returns every page of a list, with `fields` and the id of each row. A list that changes while it is read is read
   * once more. A row that is too large to be read is `tooLargeRow`.
   */
  return async function pages (
    parts: readonly string[],
    fields: readonly string[],
    query: PageQuery = {}
  ): Promise<PagesResult | NotFound> {
    const list = { parts, query, fields }
    const once = await readInSteps(list)
    return typeof once === 'string' || once.steady ? once : await readInSteps(list)
  }
}

const totalRows = (bodies: readonly unknown[]): number => bodies.reduce<number>((sum, body) => sum + rowCount(body), 0)

/** Returns the number of pages by `Link`, else by the total; 1 when the server sends neither. */
function pageCount (first: RowsPage, base: PageSize): number {
  const total = totalOf(first)
  return lastPage(first) ?? (total > base && rowCount(first.body) >= base ? Math.ceil(total / base) : 1)
}

/** Reads a page, or the smaller pages of the same rows. */
type ReadParts = (page: number, size: PageSize) => Promise<unknown[]>

interface PartsOptions extends Pick<PagesOptions, 'unexpected'> {
  limit: LimitFunction
  /** Whether the server's pages have as many rows as requested. */
  exact: boolean
  /** Number of rows of the list; 0 if unknown. */
  total: number
}

/**
 * Creates the function that reads a page, or the smaller pages of the same rows. Once a page cannot be read in parts,
 * the pages that are not requested yet are not requested at all.
 */
function createPartsReader (
  readPage: ReadPage,
  { limit, unexpected, exact, total }: PartsOptions
): ReadParts {
  let inexact = false
  return async function readParts (page: number, size: PageSize): Promise<unknown[]> {
    const response = await limit(async () => {
      if (inexact) throw unexpected('Response is too large')
      return await readPage(page, size)
    })
    if (response !== undefined) {
      if (response.kind !== 'found') throw unexpected('Response lost a page')
      return [response.body]
    }
    const smaller = smallerThan(size)
    if (smaller === undefined) return [[tooLargeRow]]
    if (!exact) {
      inexact = true
      throw new InexactPages()
    }
    const [from, to] = [(page - 1) * size / smaller, Math.min(page * size / smaller, Math.ceil(total / smaller))]
    const parts = await Promise.all(
      Array.from({ length: Math.max(0, to - from) }, async (_, index) => await readParts(from + index + 1, smaller))
    )
    return parts.flat()
  }
}

interface UncountedOptions extends Pick<PagesOptions, 'unexpected'> {
  base: PageSize
  /** Number of pages that are read already. */
  count: number
  /** Number of rows of the list; 0 if unknown. */
  total: number
  readParts: ReadParts
}

/**
 * Adds the pages after the first `count` to `bodies`, for a list whose `Link` a proxy drops or damages. Reads until
 * there are `total` rows. Where the proxy drops the total as well, it reads until a page is not full.
 */
async function readUncounted (
  bodies: unknown[],
  { base, count, total, readParts, unexpected }: UncountedOptions
): Promise<void> {
  let rows = totalRows(bodies)
  let full = total === 0 && rows >= base
  for (let page = count + 1; rows < total || full; page++) {
    if (page > maxPages) {
      if (full) throw unexpected('Response has too many pages')
      return
    }
    const next = await readParts(page, base)
    const added = totalRows(next)
    if (added === 0) return
    bodies.push(...next)
    rows += added
    full = total === 0 && added >= base
  }
}
