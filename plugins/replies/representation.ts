import { isAscii } from 'node:buffer'
import { createHash } from 'node:crypto'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import { LRUCache } from 'lru-cache'
import pLimit from 'p-limit'

/** Content codings of larger bodies, the preferred one first. */
export const codings = ['br', 'gzip'] as const
export type Coding = typeof codings[number]

/** A body as it is sent: uncompressed or in a coding, and its strong validator (RFC 9110, section 8.8.3). */
export interface Variant { readonly content: Buffer | string, readonly etag: string, readonly coding?: Coding }

/** Body of a value, created once and kept as long as the value. */
export interface Representation {
  readonly plain: Variant
  /** Whether the body is large enough to be compressed. */
  readonly large: boolean
  /** Compressed variants, as soon as they exist. */
  readonly coded: Map<Coding, Variant>
}

/** Minimum bytes of a body for which compression is worth its cost. */
export const largeFrom = 1024
/**
 * Maximum bytes of a body that Node.js writes faster as a string than as a buffer. It writes such a body together with
 * the headers if three bytes per character fit in 16 KiB.
 */
const shortUpTo = 4 * 1024
/** Maximum number of `Accept-Encoding` values in the cache. */
const rememberedValues = 500

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

/**
 * Returns the validator of a body in a coding. It is derived from the uncompressed bytes, so it exists before the
 * compressed body.
 */
export const etagOf = ({ plain: { etag } }: Representation, coding: Coding | undefined): string =>
  coding === undefined ? etag : `${etag.slice(0, -1)}-${coding}"`

/** Returns the entity tags of a body in each of its codings, whether compressed yet or not. */
export const etagsOf = (body: Representation): string[] =>
  body.large ? [undefined, ...codings].map(coding => etagOf(body, coding)) : [body.plain.etag]

/**
 * Returns the content coding with the highest weight (RFC 9110, section 12.5.3); for equal weights, the first in
 * `offered`. Returns undefined when the client accepts none of them or gives `identity` a higher weight.
 */
export function preferredCoding<C extends string> (offered: readonly C[], accepted: string): C | undefined {
  const weights = new Map(accepted.toLowerCase().split(',').map((member): [string, number] => {
    const [coding = '', ...parameters] = member.split(';').map(part => part.trim())
    const weight = parameters.find(parameter => parameter.startsWith('q='))?.slice(2)
    return [coding, weight === undefined ? 1 : Number(weight) || 0]
  }))
  const weightOf = (coding: string): number => weights.get(coding) ?? weights.get('*') ?? 0
  const [best] = [...offered].sort((a, b) => weightOf(b) - weightOf(a))
  return best !== undefined && weightOf(best) > 0 && weightOf(best) >= (weights.get('identity') ?? 0) ? best : undefined
}

/**
 * Creates a function that chooses the coding of a client. Results are cached, because clients of one kind send the same
 * value.
 */
function createCodingChoice () {
  const chosen = new LRUCache<string, { coding: Coding | undefined }>({ max: rememberedValues })
  return (accepted: string): Coding | undefined => {
    let choice = chosen.get(accepted)
    if (choice === undefined) chosen.set(accepted, choice = { coding: preferredCoding(codings, accepted) })
    return choice.coding
  }
}

/**
 * Creates the bodies of values. They are stored by the identity of the value, so a value must not be changed
 * afterwards. A body is kept as long as its value.
 */
export function createRepresentations () {
  const made = new WeakMap<object, Representation>()
  const fragments = new WeakMap<object, Buffer>()
  const preferred = createCodingChoice()
  // Compression shares the thread pool with file reads, so only one runs at a time.
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

  /** Compresses a body in the background, and stores the result. */
  async function encode (body: Representation, coding: Coding): Promise<void> {
    const content = await compress[coding](Buffer.from(body.plain.content))
    body.coded.set(coding, { content, etag: etagOf(body, coding), coding })
  }

  return {
    /** Returns the body of an object or array. The same value must always have the same serializer. */
    of: (value: object, serialize: (value: object) => string): Representation =>
      made.get(value) ?? make(value, fragment(value, serialize)),

    /** Returns the body of a list. The bytes of an item are created once and shared by all lists with that item. */
    ofList (items: readonly object[], itemSerializer: () => (value: object) => string): Representation {
      const known = made.get(items)
      if (known !== undefined) return known
      const serialize = itemSerializer()
      const parts = items.flatMap((item, at) =>
        at === 0 ? [fragment(item, serialize)] : [comma, fragment(item, serialize)]
      )
      return make(items, Buffer.concat([opening, ...parts, closing]))
    },

    /** Returns the preferred coding of a client for a body; undefined for no compression. */
    preferredCoding: ({ large }: Representation, accepted: string | undefined): Coding | undefined =>
      large && accepted !== undefined ? preferred(accepted) : undefined,

    /** Returns a body in a coding; uncompressed while compression is in progress. */
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
