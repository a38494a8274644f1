import type { Readable } from 'node:stream'
import type { UpstreamResponse } from './transport.ts'

/** Where a file is begun again, and what it was before. */
export interface Resumption {
  /** First byte that is wanted. */
  offset: number
  /** Bytes of the whole file, when known. */
  size?: number
  /** The validator that came with the beginning. */
  etag?: string
  /** Whether the address names this very content for ever, so that there needs no validator to compare. */
  constant?: boolean
}

type StreamResponse = UpstreamResponse & { stream?: Readable }

/**
 * Whether an answer is the part that was asked for, of the file that it was before: 206 with a `Content-Range` that
 * says so, and the same strong validator. `If-Range` is not relied on: Gitea does not know it.
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

/** Statuses that say something of the file, or of who asks, whatever part was asked for. */
const ofTheFile = new Set([401, 403, 404, 429, 503])

/**
 * Asks for the end of a file, and where the upstream has no such thing for the whole; `offset` is where the answer
 * begins.
 */
export async function openFrom (
  at: Resumption,
  ask: (offset: number) => Promise<StreamResponse>
): Promise<StreamResponse & { offset: number }> {
  if (at.offset > 0) {
    const part = await ask(at.offset)
    if (isContinuation(part, at)) return { ...part, offset: at.offset }
    if (part.status === 200 || ofTheFile.has(part.status)) return { ...part, offset: 0 }
    part.stream?.destroy()
  }
  return { ...await ask(0), offset: 0 }
}
