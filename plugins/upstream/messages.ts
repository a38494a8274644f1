import type { Readable } from 'node:stream'
import type { Response } from 'got'

export interface UpstreamRequest {
  /** Request method; GET if unset. */
  method?: 'GET' | 'HEAD'
  accept?: string
  /**
   * Value of `Authorization` in place of the instance's own. It is sent only to the origin of the first request, never
   * to another origin after a redirect.
   */
  authorization?: string
  signal?: AbortSignal
  /** Offset of the first byte. An upstream may send the whole file (200) nevertheless. */
  offset?: number
  /** Whether the request bypasses the queue of a crawl; if unset, true when there is a signal. */
  urgent?: boolean
}

export type ResponseHeaders = Response['headers']

/** Status and headers of one response, which may be a redirect. */
export interface ResponseHead {
  statusCode: number
  headers: ResponseHeaders
}

/** A response that is not a redirect, and its address. */
export interface UpstreamResponse {
  url: URL
  status: number
  headers: ResponseHeaders
}

/** A response whose body is read as it arrives. It has a body only if the status is 200, or 206 for an offset. */
export type StreamResponse = UpstreamResponse & { stream?: Readable }

/** JSON of `size` bytes, or the reason for a missing body: the resource is absent or has moved. */
export type JsonResponse = { kind: 'found', body: unknown, headers: ResponseHeaders, size: number } | {
  kind: 'absent'
} | { kind: 'moved' }

/** Returns whether the `Content-Type` of a response is JSON. */
export const isJson = (headers: ResponseHeaders): boolean =>
  /^application\/(?:[\w.+-]+\+)?json\b/i.test(headers['content-type'] ?? '')

/** Returns whether the `Content-Type` of a response is HTML, as a login page has. */
export const isHtml = (headers: ResponseHeaders): boolean => /^text\/html\b/i.test(headers['content-type'] ?? '')

/** Returns whether the body of a response has a content coding such as gzip. */
export const isCompressed = (headers: ResponseHeaders): boolean =>
  (headers['content-encoding'] ?? 'identity') !== 'identity'
