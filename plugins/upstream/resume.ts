import type { StreamResponse, UpstreamResponse } from './exchange.ts'

/** Offset at which the transfer of a file is resumed, and the known properties of the file. */
export interface Resumption {
  /** Offset of the first byte to read. */
  offset: number
  /** Size of the whole file in bytes, when known. */
  size?: number
  /** Validator of the first response. */
  etag?: string
  /** Whether the content of the address is immutable, so that a validator is not needed. */
  constant?: boolean
}

/**
 * Returns whether a response is the requested part of the same file: 206 with the `Content-Range` and the same strong
 * validator. `If-Range` is not used, because Gitea does not implement it.
 */
export function isContinuation (
  { status, headers }: Pick<UpstreamResponse, 'status' | 'headers'>,
  { offset, size, etag, constant = false }: Resumption
): boolean {
  if (status !== 206) return false
  const [, start, end, total] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(headers['content-range'] ?? '') ?? []
  if (
    Number(start) !== offset || Number(end) !== Number(total) - 1 || (size !== undefined && Number(total) !== size)
  ) { return false }
  if (etag !== undefined && headers.etag !== undefined) return etag === headers.etag && !etag.startsWith('W/')
  return constant
}

/** Statuses that concern the file or the client, independent of the range. */
const rangeIndependentStatuses = new Set([401, 403, 404, 429, 503])

/**
 * Opens a file with `open` at an offset, or the whole file if the response is not that part. `offset` of the result is
 * the first byte of its stream.
 */
export async function openFrom (
  at: Resumption,
  open: (offset: number) => Promise<StreamResponse>
): Promise<StreamResponse & { offset: number }> {
  if (at.offset > 0) {
    const part = await open(at.offset)
    if (isContinuation(part, at)) return { ...part, offset: at.offset }
    if (part.status === 200 || rangeIndependentStatuses.has(part.status)) return { ...part, offset: 0 }
    part.stream?.destroy()
  }
  return { ...await open(0), offset: 0 }
}
