import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { create as contentDisposition } from 'content-disposition'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { late, untilAborted, withDeadline } from '../../lib/deadline.ts'
import { preconditionFailed, registryError } from '../../lib/errors.ts'
import type { Download, OpenContent } from '../downloads/download.ts'
import { heldBytes } from '../downloads/transfer/reader.ts'
import type { FileInfo } from '../downloads/transfer/source.ts'
import { applicableRange, evaluateConditions, isConditional, parseRange } from './conditional.ts'

/**
 * Opens the file of a download. Another file may have replaced it since the request began. Throws the reason of
 * `signal` when that is aborted first, and a `RegistryError` otherwise.
 */
export type OpenDownload<T extends Download> = (download: T, options: { signal: AbortSignal }) => Promise<OpenContent>

/** Returns the headers that describe the origin of a response. */
type Provenance = (waited: boolean) => Record<string, string>

/** Offset of the first byte of a part, and of the byte after its last one. */
interface Part { start: number, end: number }

/** Publication time of a version that has no known time. */
const unknownTime = '1970-01-01T00:00:00Z'

const etagOf = ({ validator }: FileInfo): string => `"${validator}"`

/** Returns the header of a digest (RFC 9530); no header for an algorithm that the RFC does not define. */
function reprDigest (digest: string | undefined): Record<string, string> {
  const [algorithm, hex = ''] = digest?.split(':', 2) ?? []
  const name = algorithm === 'sha256' ? 'sha-256' : algorithm === 'sha512' ? 'sha-512' : undefined
  return name === undefined ? {} : { 'repr-digest': `${name}=:${Buffer.from(hex, 'hex').toString('base64')}:` }
}

/** Returns whether the client has this file, so that the response is 304. Throws `precondition_failed`. */
function isKnown (request: FastifyRequest, file: FileInfo, published: string): boolean {
  if (!isConditional(request)) return false
  const etags = [etagOf(file)]
  const refusal = evaluateConditions(request, {
    current: () => etags,
    usable: etags,
    modified: published === unknownTime ? undefined : Date.parse(published)
  })
  if (refusal?.status === 412) throw preconditionFailed(refusal.header)
  return refusal !== undefined
}

/** Returns whether the client has an opened file, and releases the file unless it is to be sent. */
function isOpenedKnown (request: FastifyRequest, { file, release }: OpenContent, published: string): boolean {
  let sent = false
  try {
    sent = !isKnown(request, file, published)
    return !sent
  } finally {
    // A condition may also have thrown.
    if (!sent) release()
  }
}

/** Returns the requested part of a file; undefined for the whole file. Throws `range_not_satisfiable`. */
function partOf (request: FastifyRequest, file: FileInfo, size: number | undefined): Part | undefined {
  if (size === undefined) return undefined
  const range = parseRange(applicableRange(request, etagOf(file)), size)
  if (range === 'unsatisfiable') {
    throw registryError('range_not_satisfiable', `The file has no such range: it has ${size} bytes`, { size })
  }
  return range === 'whole' ? undefined : range
}

/**
 * Returns whether the first byte of a part is sent as soon as it arrives. A part takes longer when it begins later, or
 * when it is held back until a larger file is verified.
 */
const beginsAtOnce = (part: Part | undefined, size: number | undefined): boolean =>
  part === undefined || (part.start === 0 && (part.end > heldBytes || size === undefined || size <= heldBytes))

/** Sets the headers of a file, or of a part of `length` bytes. */
function setHeaders (
  reply: FastifyReply,
  file: FileInfo,
  { length, digest, published }: { length: number | undefined, digest: string | undefined, published: string },
  provenance: Record<string, string>
): FastifyReply {
  if (length !== undefined) reply.header('content-length', length)
  return reply.headers({
    ...provenance,
    // An intermediary must not change bytes whose digest is sent.
    'cache-control': `${provenance['cache-control']}, no-transform`,
    etag: etagOf(file),
    'accept-ranges': 'bytes',
    'content-type': 'application/octet-stream',
    'content-disposition': contentDisposition(file.name),
    ...(published !== unknownTime && { 'last-modified': new Date(published).toUTCString() }),
    ...reprDigest(file.checksum ?? digest)
  })
}

/** Returns a signal that is aborted when the connection of a response closes. */
function closedSignal ({ raw }: FastifyReply): AbortSignal {
  const closed = new AbortController()
  raw.once('close', () => { closed.abort() })
  if (raw.destroyed) closed.abort()
  return closed.signal
}

/** Limits the number of concurrent downloads, because each holds a connection to a client and one to an upstream. */
export function createDownloadSlots (maxDownloads: number) {
  let active = 0
  return {
    /** Returns the number of slots in use. */
    active: (): number => active,

    /** Takes a slot until the response closes for any reason; returns false when all slots are in use. */
    take (reply: Pick<ServerResponse, 'destroyed' | 'once'>): boolean {
      if (active >= maxDownloads) return false
      // A closed response does not emit `close` again, so it must not take a slot.
      if (reply.destroyed) return true
      active++
      reply.once('close', () => { active-- })
      return true
    }
  }
}
export type DownloadSlots = ReturnType<typeof createDownloadSlots>

/**
 * Creates the function that sends a file as a download: whole, in part, or 304 when the client has it (RFC 9110).
 * `ETag` is a strong validator, and `Last-Modified` is the publication time. Conditions are evaluated before `Range`:
 * first before the file is opened, then against the opened file, which may be a newer one.
 */
export function createFileReply ({ slots, onShed }: { slots: DownloadSlots, onShed: () => void }) {
  const notModified = (reply: FastifyReply, file: FileInfo, provenance: Record<string, string>) =>
    reply.code(304).headers({ ...provenance, etag: etagOf(file) })

  /** Sets the headers of an opened file, and returns its stream. `signal` also limits the wait for the first byte. */
  async function read (
    reply: FastifyReply,
    content: OpenContent,
    { published, provenance, closed, signal }: {
      published: string,
      provenance: Provenance,
      closed: AbortSignal,
      signal: AbortSignal
    }
  ) {
    const { file, size, digest, waited } = content
    let stream
    try {
      const part = partOf(reply.request, file, size)
      const length = part === undefined ? size : part.end - part.start
      setHeaders(reply, file, { length, digest, published }, provenance(waited))
      if (part !== undefined) reply.code(206).header('content-range', `bytes ${part.start}-${part.end - 1}/${size}`)
      const opened = stream = content.read(part ?? { start: 0, ...(size !== undefined && { end: size }) })
      closed.addEventListener('abort', () => { opened.destroy() })
      closed.throwIfAborted()
      // Resumption does not limit the wait for the first byte, so the signal does.
      if (waited && beginsAtOnce(part, size)) await untilAborted(once(opened, 'readable'), signal)
      return opened
    } catch (error) {
      if (stream === undefined) content.release()
      else stream.destroy()
      throw error
    }
  }

  return async function sendFile<T extends Download> (
    reply: FastifyReply,
    download: T,
    open: OpenDownload<T>,
    provenance: Provenance
  ): Promise<FastifyReply> {
    const { request } = reply
    const { ref, file, published, digest, openBy } = download
    if (isKnown(request, file, published)) return await notModified(reply, file, provenance(false)).send()
    if (request.method === 'HEAD') {
      return await setHeaders(reply, file, { length: file.size, digest, published }, provenance(false)).send()
    }
    partOf(request, file, file.size)
    if (!slots.take(reply.raw)) {
      onShed()
      throw registryError('service_unavailable', 'Too many downloads at once')
    }
    const closed = closedSignal(reply)
    try {
      const stream = await withDeadline(openBy - performance.now(), () => late(ref.instance), async signal => {
        const content = await open(download, { signal })
        if (!isOpenedKnown(request, content, published)) {
          return await read(reply, content, { published, provenance, closed, signal })
        }
        notModified(reply, content.file, provenance(content.waited))
        return undefined
      }, closed)
      return await reply.send(stream)
    } catch (error) {
      // The client has closed the connection, so neither a response nor an error is sent.
      if (closed.aborted) return reply.hijack()
      throw error
    }
  }
}
