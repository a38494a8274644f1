/** One line of a checksum file. */
interface Entry {
  /** Lowercase hexadecimal. */
  digest: string
  /** Undefined for a digest without a name, or of the standard input. */
  name: string | undefined
}

/**
 * Lines `SHA256 (name) = digest` of BSD, `SHA256(name)= digest` and `SHA2-256(name)= digest` of openssl, and
 * `(stdin)= digest` of an old openssl.
 */
const bsd = /^(\\?)(?:SHA(?:2-)?256)? ?\((.+)\) ?= ?([0-9a-f]{64})$/i
/**
 * Lines `digest  name` and `digest *name` of sha256sum, and `digest` alone, each with or without `sha256:` before the
 * digest.
 */
const gnu = /^(\\?)(?:sha256:)?([0-9a-f]{64})(?:[ \t]+(.*))?$/i
/** Names that tools use for their standard input. */
const standardInput = new Set(['', '-', 'stdin'])

const escapes: Record<string, string> = { '\\\\': '\\', '\\n': '\n', '\\r': '\r' }
/** Returns a name without escapes. A line that begins with a backslash has an escaped name (GNU coreutils). */
const unescaped = (name: string, marked: boolean): string =>
  marked ? name.replace(/\\[\\nr]/g, escape => escapes[escape] ?? escape) : name

function entryOf (line: string): Entry | undefined {
  const [, mark, digest, rest = ''] = gnu.exec(line) ?? []
  const [, bsdMark, bsdName = '', bsdDigest] = digest === undefined ? bsd.exec(line) ?? [] : []
  const found = digest ?? bsdDigest
  if (found === undefined) return undefined
  const name = digest === undefined
    ? unescaped(bsdName, bsdMark === '\\')
    : unescaped(rest.replace(/^\*/, ''), mark === '\\')
  return { digest: found.toLowerCase(), name: standardInput.has(name) ? undefined : name }
}

/** Decodes a text file in the encoding of its byte order mark; in UTF-8 without a mark. */
function decode (bytes: Buffer): string {
  const [first, second, third] = bytes
  if (first === 0xef && second === 0xbb && third === 0xbf) return bytes.toString('utf8', 3)
  const whole = bytes.subarray(2, bytes.length - bytes.length % 2)
  if (first === 0xff && second === 0xfe) return whole.toString('utf16le')
  if (first === 0xfe && second === 0xff) return Buffer.from(whole).swap16().toString('utf16le')
  return bytes.toString('utf8')
}

const baseName = (name: string): string => name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1)

/**
 * Returns the SHA-256 digest of a file by a checksum file, in lowercase hexadecimal; undefined when it has none, or
 * entries contradict each other. An entry of exactly that name counts before entries with a path whose base name it is.
 * In the file's `own` checksum file a digest without a name counts last. Digests of another length are ignored.
 */
export function digestIn (bytes: Buffer, name: string, own: boolean): string | undefined {
  const exact = new Set<string>()
  const based = new Set<string>()
  const alone = new Set<string>()
  for (const line of decode(bytes).split(/\r\n|\n|\r/)) {
    const entry = entryOf(line.trim())
    if (entry === undefined) continue
    if (entry.name === undefined) alone.add(entry.digest)
    else if (entry.name === name || entry.name === `./${name}`) exact.add(entry.digest)
    else if (baseName(entry.name) === name) based.add(entry.digest)
  }
  const counted = exact.size > 0 ? exact : based.size > 0 ? based : own ? alone : undefined
  return counted?.size === 1 ? [...counted][0] : undefined
}
