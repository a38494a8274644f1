/** Maximum nesting of a document; documents of upstreams have six levels. */
const maxDepth = 64
/** Maximum number of values of a document, because short values need much more memory than bytes. */
const maxValues = 1_000_000

const [quote, backslash, comma] = [0x22, 0x5c, 0x2c]
const opening = new Set([0x5b, 0x7b])
const closing = new Set([0x5d, 0x7d])

/** Throws a `SyntaxError` when a document has too many levels or too many values. */
function inspect (bytes: Uint8Array): void {
  let depth = 0
  let values = 1
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0
    if (byte === quote) {
      do at++; while (at < bytes.length && bytes[at] !== quote && (bytes[at] !== backslash || ++at < bytes.length))
    } else if (byte === comma) values++
    else if (opening.has(byte)) {
      values++
      depth++
    } else if (closing.has(byte)) depth--
    if (depth > maxDepth) throw new SyntaxError('The document is nested too deeply')
    if (values > maxValues) throw new SyntaxError('The document has too many values')
  }
}

/**
 * Returns the value of a JSON document from an untrusted source. A document with too many levels or values is refused
 * before it is parsed, which limits memory. Throws a `SyntaxError`, whose message may contain parts of the text.
 */
export function parseJson (bytes: Uint8Array): unknown {
  inspect(bytes)
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'))
}
