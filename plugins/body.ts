import { createHash } from 'node:crypto'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import { Negotiator } from '@fastify/accept-negotiator'
import { LRUCache } from 'lru-cache'
import pLimit from 'p-limit'

/** Codings that a larger body is also kept in, the preferred one first. */
export const codings = ['br', 'gzip'] as const
export type Coding = typeof codings[number]

/** The bytes of a value, made once for as long as the value is kept. */
export interface Body {
  readonly bytes: Buffer
  /** Names the bytes, without quotes. */
  readonly tag: string
  /** Whether it is large enough to be sent in another coding. */
  readonly large: boolean
  readonly coded: Map<Coding, Buffer>
}

/** What is sent to a client: the bytes, the strong validator of them (RFC 9110, section 8.8.3), and the coding that they are in. */
export interface Representation { bytes: Buffer, etag: string, coding: Coding | undefined }

/** Bytes from which another coding saves a client more than it costs. */
export const largeFrom = 1024
/** Values of `Accept-Encoding` of which it is remembered what they ask for. */
const rememberedPreferences = 500

const compress: Record<Coding, (bytes: Buffer) => Promise<Buffer>> = {
  br: async bytes => await promisify(brotliCompress)(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 5, [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
  gzip: async bytes => await promisify(gzip)(bytes)
}

/**
 * The bodies of values, by the identity of the value: whoever gives the same object again gets the same bytes, which must
 * not be changed. A body lives as long as its value does.
 */
export function createBodies () {
  const made = new WeakMap<object, Body>()
  const fragments = new WeakMap<object, Buffer>()
  const negotiator = new Negotiator<Coding | 'identity'>({ supportedValues: [...codings, 'identity'], cache: new LRUCache<string, string>({ max: rememberedPreferences }) })
  // Compressing shares its threads with reading files.
  const one = pLimit(1)

  function make (value: object, bytes: Buffer): Body {
    const body = { bytes, tag: createHash('sha256').update(bytes).digest('base64url').slice(0, 27), large: bytes.length >= largeFrom, coded: new Map<Coding, Buffer>() }
    made.set(value, body)
    return body
  }

  function fragment (value: object, serialize: (value: object) => string): Buffer {
    let bytes = fragments.get(value)
    if (bytes === undefined) fragments.set(value, bytes = Buffer.from(serialize(value)))
    return bytes
  }

  /** Makes a body's other form behind the one who first wanted it, who gets it as it is. */
  function encode (body: Body, coding: Coding): void {
    body.coded.set(coding, body.bytes)
    void one(async () => { body.coded.set(coding, await compress[coding](body.bytes)) }).catch(() => { body.coded.delete(coding) })
  }

  return {
    /** The body of an object or array that is always written by the same serializer. */
    of: (value: object, serialize: (value: object) => string): Body => made.get(value) ?? make(value, fragment(value, serialize)),

    /** The body of a list: the bytes of its items, which are made once for all lists that show them. */
    ofList (items: readonly object[], serializeItem: (value: object) => string): Body {
      const known = made.get(items)
      if (known !== undefined) return known
      const parts = items.flatMap((item, at) => at === 0 ? [fragment(item, serializeItem)] : [comma, fragment(item, serializeItem)])
      return make(items, Buffer.concat([opening, ...parts, closing]))
    },

    /** What of a body is sent to who accepts these codings. The validator names the form that was chosen. */
    represent (body: Body, accepted: string | undefined, isCurrent: (etag: string) => boolean): Representation & { current: boolean } {
      const plain = { bytes: body.bytes, etag: `"${body.tag}"`, coding: undefined }
      const wanted = accepted === undefined || !body.large ? null : negotiator.negotiate(accepted)
      if (wanted === null || wanted === 'identity') return { ...plain, current: isCurrent(plain.etag) }
      const etag = `"${body.tag}-${wanted}"`
      if (isCurrent(etag)) return { ...plain, etag, coding: wanted, current: true }
      const bytes = body.coded.get(wanted)
      if (bytes === undefined) encode(body, wanted)
      if (bytes === undefined || bytes === body.bytes) return { ...plain, current: isCurrent(plain.etag) }
      return { bytes, etag, coding: wanted, current: false }
    }
  }
}
export type Bodies = ReturnType<typeof createBodies>

const [opening, comma, closing] = ['[', ',', ']'].map(text => Buffer.from(text)) as [Buffer, Buffer, Buffer]
