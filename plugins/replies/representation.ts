import { isAscii } from 'node:buffer'
import { createHash } from 'node:crypto'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import pLimit from 'p-limit'
import { createCodingChoice } from './accept-encoding.ts'

/** Codings that a larger body is sent in, the preferred one first. */
export const codings = ['br', 'gzip'] as const
export type Coding = typeof codings[number]

/**
 * What a client gets of a body: the bytes as they are or in a coding, and their strong validator (RFC 9110, section
 * 8.8.3).
 */
export interface Variant { readonly content: Buffer | string, readonly etag: string, readonly coding?: Coding }

/** The bytes of a value, made once for as long as the value is kept. */
export interface Representation {
  readonly plain: Variant
  /** Whether it is large enough to be sent in another coding. */
  readonly large: boolean
  /** Its compressed variants, as soon as they exist. */
  readonly coded: Map<Coding, Variant>
}

/** Bytes from which another coding saves a client more than it costs. */
export const largeFrom = 1024
/**
 * Bytes up to which Node writes a text faster than a buffer: in one go with the headers, as long as three bytes a
 * character would fit its 16 KiB.
 */
const shortUpTo = 4 * 1024

const compress: Record<Coding, (bytes: Buffer) => Promise<Buffer>> = {
  br: async bytes =>
    await promisify(brotliCompress)(bytes, {
      params: {
        [constants.BROTLI_PARAM_QUALITY]: 5,
        [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT,
        [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length
      }
    }),
  gzip: async bytes => await promisify(gzip)(bytes)
}

/** The validator of a body in this coding, made or not: it names the bytes that are coded. */
export const etagOf = ({ plain: { etag } }: Representation, coding: Coding | undefined): string =>
  coding === undefined ? etag : `${etag.slice(0, -1)}-${coding}"`

/** Returns the entity tags of a body in each coding that it may be sent in, made or not. */
export const etagsOf = (body: Representation): string[] =>
  body.large ? [undefined, ...codings].map(coding => etagOf(body, coding)) : [body.plain.etag]

/**
 * The bodies of values, by the identity of the value: whoever gives the same object again gets the same bytes, so that
 * it must not be changed. A body lives as long as its value does.
 */
export function createRepresentations () {
  const made = new WeakMap<object, Representation>()
  const fragments = new WeakMap<object, Buffer>()
  const preferred = createCodingChoice(codings)
  // Compressing shares its threads with reading files.
  const one = pLimit(1)

  function make (value: object, bytes: Buffer): Representation {
    const etag = `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 27)}"`
    const content = bytes.length <= shortUpTo && isAscii(bytes) ? bytes.toString('latin1') : bytes
    const body = { plain: { content, etag }, large: bytes.length >= largeFrom, coded: new Map<Coding, Variant>() }
    made.set(value, body)
    return body
  }

  function fragment (value: object, serialize: (value: object) => string): Buffer {
    let bytes = fragments.get(value)
    if (bytes === undefined) fragments.set(value, bytes = Buffer.from(serialize(value)))
    return bytes
  }

  /** Compresses a body in the background, and keeps the result. */
  async function encode (body: Representation, coding: Coding): Promise<void> {
    const content = await compress[coding](Buffer.from(body.plain.content))
    body.coded.set(coding, { content, etag: etagOf(body, coding), coding })
  }

  return {
    /** The body of an object or array that is always written by the same serializer. */
    of: (value: object, serialize: (value: object) => string): Representation =>
      made.get(value) ?? make(value, fragment(value, serialize)),

    /** The body of a list: the bytes of its items, which are made once for all lists that show them. */
    ofList (items: readonly object[], itemSerializer: () => (value: object) => string): Representation {
      const known = made.get(items)
      if (known !== undefined) return known
      const serialize = itemSerializer()
      const parts = items.flatMap((item, at) =>
        at === 0 ? [fragment(item, serialize)] : [comma, fragment(item, serialize)]
      )
      return make(items, Buffer.concat([opening, ...parts, closing]))
    },

    /** The coding in which a client would best get a body; undefined for its bytes as they are. */
    preferredCoding: ({ large }: Representation, accepted: string | undefined): Coding | undefined =>
      large && accepted !== undefined ? preferred(accepted) : undefined,

    /** A body in this coding; its bytes as they are while that is still being made. */
    take (body: Representation, coding: Coding | undefined): Variant {
      if (coding === undefined) return body.plain
      const variant = body.coded.get(coding)
      if (variant !== undefined) return variant
      body.coded.set(coding, body.plain)
      one(encode, body, coding).catch(() => { body.coded.delete(coding) })
      return body.plain
    }
  }
}
export type Representations = ReturnType<typeof createRepresentations>

const [opening, comma, closing] = ['[', ',', ']'].map(text => Buffer.from(text)) as [Buffer, Buffer, Buffer]
