import { create as contentDisposition } from 'content-disposition'
import type { FastifyReply } from 'fastify'
import type { DownloadSlots } from './download-slots.ts'
import type { Content, FileFacts } from './downloads.ts'
import { registryError } from './errors.ts'
import { notModified } from './not-modified.ts'
import { mayContinue, parseRange } from './range.ts'

/** A file that is only fetched when it is opened. */
export interface Download {
  file: FileFacts
  /** When its version was published, as the publisher says. */
  published: string
  /** The digest that it has, where that is known by now. */
  digest: string | undefined
  /** Opens the content, which may have been replaced and be another file by now. Rejects when `signal` is aborted. */
  open: (signal: AbortSignal) => Promise<Content>
}

/** What a catalog tells where a publisher tells no time. */
const unknownTime = '1970-01-01T00:00:00Z'

/** A digest as RFC 9530 has it; only of algorithms that it knows. */
function reprDigest (digest: string | undefined): Record<string, string> {
  const [algorithm, hex = ''] = digest?.split(':', 2) ?? []
  const name = algorithm === 'sha256' ? 'sha-256' : algorithm === 'sha512' ? 'sha-512' : undefined
  return name === undefined ? {} : { 'repr-digest': `${name}=:${Buffer.from(hex, 'hex').toString('base64')}:` }
}

/**
 * Answers with a file as a download: whole, in part, or that the client has it (RFC 9110). Its validator is its `ETag`;
 * `Last-Modified` tells people when the version was published, but no condition by date is ever met: a file that replaces
 * another may bear the same date.
 */
export function createFileReply ({ slots, onShed }: { slots: DownloadSlots, onShed: () => void }) {
  const etagOf = ({ validator }: FileFacts) => `"${validator}"`

  /** The part that is asked for of a file; undefined for all of it. Throws when there is no such part. */
  function partOf ({ request: { method, headers } }: FastifyReply, file: FileFacts, size: number | undefined): { start: number, end: number } | undefined {
    if (method !== 'GET' || size === undefined || !mayContinue(headers['if-range'], etagOf(file))) return undefined
    const range = parseRange(headers.range, size)
    if (range === 'unsatisfiable') throw registryError('range_not_satisfiable', `The file has no such range: it has ${size} bytes`, { size })
    return range === 'whole' ? undefined : range
  }

  return async function send (reply: FastifyReply, { file, published, digest, open }: Download, provenance: (waited: boolean) => Record<string, string>): Promise<FastifyReply> {
    const tell = (told: FileFacts, size: number | undefined, digest: string | undefined, waited = false) => {
      const origin = provenance(waited)
      if (size !== undefined) reply.header('content-length', size)
      return reply.headers({
        ...origin,
        // Nobody on the way may change bytes of which a digest is told.
        'cache-control': `${origin['cache-control']}, no-transform`,
        etag: etagOf(told),
        'accept-ranges': 'bytes',
        'content-type': 'application/octet-stream',
        'content-disposition': contentDisposition(told.name),
        ...(published !== unknownTime && { 'last-modified': new Date(published).toUTCString() }),
        ...reprDigest(told.checksum ?? digest)
      })
    }
    if (notModified(reply, etagOf(file))) return await reply.code(304).headers({ ...provenance(false), etag: etagOf(file) }).send()
    if (reply.request.method === 'HEAD') return await tell(file, file.size, digest).send()
    partOf(reply, file, file.size)
    if (!slots.take(reply.raw)) {
      onShed()
      throw registryError('service_unavailable', 'Too many downloads at once')
    }
    const hangUp = new AbortController()
    reply.raw.once('close', () => { hangUp.abort() })
    if (reply.raw.destroyed) hangUp.abort()
    const content = await open(hangUp.signal)
    return await reply.send(read(reply, content, hangUp.signal, tell))
  }

  /** The stream of an opened file, with the headers of what it then is. */
  function read (reply: FastifyReply, content: Content, gone: AbortSignal, tell: (file: FileFacts, size: number | undefined, digest: string | undefined, waited: boolean) => unknown) {
    const { file, size, digest, waited } = content
    try {
      const part = partOf(reply, file, size)
      tell(file, part === undefined ? size : part.end - part.start, digest, waited)
      if (part !== undefined) reply.code(206).header('content-range', `bytes ${part.start}-${part.end - 1}/${size}`)
      const stream = content.read(part ?? { start: 0, ...(size !== undefined && { end: size }) })
      gone.addEventListener('abort', () => { stream.destroy() })
      if (gone.aborted) stream.destroy()
      return stream
    } catch (error) {
      content.release()
      throw error
    }
  }
}
