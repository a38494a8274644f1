import type { Readable } from 'node:stream'
import type { Response } from 'got'

export interface UpstreamRequest {
  /** GET if unset. */
  method?: 'GET' | 'HEAD'
  accept?: string
  /** Sent instead of the instance's own, to the origin of the first request only, and to no other after a redirect. */
  authorization?: string
  signal?: AbortSignal
  /** First byte of the file. An upstream may send the whole file (200) all the same. */
  offset?: number
  /** Whether the request does not wait for those of a crawl; true if unset and there is a signal. */
  urgent?: boolean
}

export type ResponseHeaders = Response['headers']

/** Status and headers of one response, redirects too. */
export interface ResponseHead {
  statusCode: number
  headers: ResponseHeaders
}

/** A response of any status but a redirect, with the address that it comes from. */
export interface UpstreamResponse {
  url: URL
  status: number
  headers: ResponseHeaders
}

/** A response whose body is read as it arrives; without a body unless the status is 200, or 206 for an offset. */
export type StreamResponse = UpstreamResponse & { stream?: Readable }

/** JSON of `size` bytes, or the reason why there is no body: the resource is absent, or has moved. */
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
