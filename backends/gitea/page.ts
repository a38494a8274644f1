import { linkTarget } from '../../lib/link-header.ts'
import type { JsonResponse } from '../../plugins/upstream/client.ts'

/**
 * Numbers of rows of a page, the largest first: the default maximum of Gitea and Forgejo (`[api] MAX_RESPONSE_ITEMS`).
 * Each is a multiple of the next, so that a page can be read in parts.
 */
export const pageSizes = [50, 25, 5, 1] as const
export type PageSize = typeof pageSizes[number]

/** Returns the next smaller page size; undefined for the smallest. */
export const smallerThan = (size: PageSize): PageSize | undefined => pageSizes[pageSizes.indexOf(size) + 1]

/** Replaces a row that is too large to be read. */
export const tooLargeRow: object = Object.freeze({})

/** A page that exists. */
export type RowsPage = Extract<JsonResponse, { kind: 'found' }>

export const rowCount = (body: unknown): number => Array.isArray(body) ? body.length : 0

/** Returns the number of rows of the whole list (`X-Total-Count`); 0 when the server does not send it. */
export const totalOf = ({ headers }: Pick<RowsPage, 'headers'>): number => Number(headers['x-total-count'] ?? 0)

/**
 * Returns the number of the last page by `Link`. The address in it is not used, since servers build it with a host name
 * of their own.
 */
export function lastPage ({ headers: { link } }: Pick<RowsPage, 'headers'>): number | undefined {
  const page = /[?&]page=(\d{1,9})/.exec(linkTarget(link, 'last') ?? '')?.[1]
  return page === undefined ? undefined : Number(page)
}

/** Returns a page without the fields that are not used; each row keeps `id` and `fields`. */
export function slimPage (body: unknown, fields: readonly string[]): unknown {
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
export function hasRepeatedPage (bodies: readonly unknown[]): boolean {
  const keys = bodies.filter(body => Array.isArray(body) && body.some(row => row !== tooLargeRow)).map(pageKey)
  return new Set(keys).size < keys.length
}
