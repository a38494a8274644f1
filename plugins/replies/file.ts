import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { create as contentDisposition } from 'content-disposition'
import type { FastifyReply } from 'fastify'
import { applicableRange, evaluateConditions, isConditional } from './conditional.ts'
import { within, type Deadline } from '../../lib/deadline.ts'
import type { DownloadSlots } from '../downloads/slots.ts'
import type { OpenContent, FileFacts } from '../downloads/plugin.ts'
import { preconditionFailed, registryError } from '../../lib/errors.ts'
import { parseRange } from './range.ts'
import { heldBytes } from '../downloads/transfer/reader.ts'

/** A file that is only fetched when it is opened. */
export interface Download {
  file: FileFacts
  /** When its version was published, as the publisher says. */
  published: string
  /** The digest that it has, where that is known by now. */
  digest: string | undefined
  /** Opens the content, which may have been replaced and be another file by now. Rejects when `signal` is aborted. */
  open: (signal: AbortSignal) => Promise<OpenContent>
  /** How long its beginning is waited for, where an upstream has to be asked. */
  deadline: Deadline
  /** What is said when that does not come in time. */
  late: () => Error
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
 * Sends a file as a download: whole, in part, or 304 when the client has it (RFC 9110). Its strong validator is its
 * `ETag`; `Last-Modified` is when the version was published. Conditions are evaluated before the file is opened and,
 * since it may have been replaced meanwhile, against the opened file. They are evaluated before `Range`.
 */
export function createFileReply ({ slots, onShed }: { slots: DownloadSlots, onShed: () => void }) {
  const etagOf = ({ validator }: FileFacts) => `"${validator}"`

  /** Whether the client has this file, so that the response is 304. Throws `precondition_failed`. */
  function isKnown ({ request }: FastifyReply, file: FileFacts, published: string): boolean {
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

  /** The part that is asked for of a file; undefined for all of it. Throws when there is no such part. */
  function partOf (
    { request }: FastifyReply,
    file: FileFacts,
    size: number | undefined
  ): { start: number, end: number } | undefined {
    if (size === undefined) return undefined
    const range = parseRange(applicableRange(request, etagOf(file)), size)
    if (range === 'unsatisfiable') {
      throw registryError('range_not_satisfiable', `The file has no such range: it has ${size} bytes`, { size })
    }
    return range === 'whole' ? undefined : range
  }

  /** The same for an opened file, which is released unless it is to be sent. */
  function isOpenedKnown (reply: FastifyReply, { file, release }: OpenContent, published: string): boolean {
    let wanted = false
    try {
      wanted = !isKnown(reply, file, published)
      return !wanted
    } finally {
      // Also when a condition has failed.
      if (!wanted) release()
    }
  }

  return async function send (
    reply: FastifyReply,
    download: Download,
    provenance: (waited: boolean) => Record<string, string>
  ): Promise<FastifyReply> {
    const { file, published, digest, open } = download
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
    const notModified = (known: FileFacts, waited = false) =>
      reply.code(304).headers({ ...provenance(waited), etag: etagOf(known) })
    if (isKnown(reply, file, published)) return await notModified(file).send()
    if (reply.request.method === 'HEAD') return await tell(file, file.size, digest).send()
    partOf(reply, file, file.size)
    if (!slots.take(reply.raw)) {
      onShed()
      throw registryError('service_unavailable', 'Too many downloads at once')
    }
    const hangUp = new AbortController()
    reply.raw.once('close', () => { hangUp.abort() })
    if (reply.raw.destroyed) hangUp.abort()
    try {
      const content = await open(hangUp.signal)
      if (isOpenedKnown(reply, content, published)) return await notModified(content.file, content.waited).send()
      return await reply.send(await read(reply, content, hangUp.signal, tell, download))
    } catch (error) {
      // Nobody is there to be told, and that somebody left is no failure.
      if (hangUp.signal.aborted) return reply.hijack()
      throw error
    }
  }

  /** The stream of an opened file, with the headers of what it then is. */
  async function read (
    reply: FastifyReply,
    content: OpenContent,
    gone: AbortSignal,
    tell: (file: FileFacts, size: number | undefined, digest: string | undefined, waited: boolean) => unknown,
    { deadline, late }: Pick<Download, 'deadline' | 'late'>
  ) {
    const { file, size, digest, waited } = content
    let stream: Readable | undefined
    try {
      const part = partOf(reply, file, size)
      tell(file, part === undefined ? size : part.end - part.start, digest, waited)
      if (part !== undefined) reply.code(206).header('content-range', `bytes ${part.start}-${part.end - 1}/${size}`)
      const opened = stream = content.read(part ?? { start: 0, ...(size !== undefined && { end: size }) })
      gone.addEventListener('abort', () => { opened.destroy() })
      gone.throwIfAborted()
      // What lies further on, or is withheld until a larger file is whole, may take its time to come; the beginning may
      // not, though the upstream is tried again and again.
      if (
        waited &&
        (part === undefined || (part.start === 0 && (part.end > heldBytes || size === undefined || size <= heldBytes)))
      ) {
        const begun = once(opened, 'readable', { signal: gone })
        begun.catch(() => {})
        await within(deadline.left(), begun, late)
      }
      return opened
    } catch (error) {
      if (stream === undefined) content.release()
      else stream.destroy()
      throw error
    }
  }
}
