/** One line of a checksum file. */
interface Entry {
  /** Lowercase hexadecimal. */
  digest: string
  /** Undefined for a digest alone, or one of the standard input. */
  name: string | undefined
}

/**
 * `SHA256 (name) = digest` of BSD, `SHA256(name)= digest` and `SHA2-256(name)= digest` of openssl, `(stdin)= digest` of
 * an old one.
 */
const bsd = /^(\\?)(?:SHA(?:2-)?256)? ?\((.+)\) ?= ?([0-9a-f]{64})$/i
/** `digest  name` and `digest *name` of sha256sum, `digest` alone, each with or without `sha256:` before the digest. */
const gnu = /^(\\?)(?:sha256:)?([0-9a-f]{64})(?:[ \t]+(.*))?$/i
/** How a tool names what it read from a pipe. */
const standardInput = new Set(['', '-', 'stdin'])

const escapes: Record<string, string> = { '\\\\': '\\', '\\n': '\n', '\\r': '\r' }
/** Returns a name as it is; a line that begins with a backslash has it escaped (GNU coreutils). */
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

/** Decodes a text file; a byte order mark names its encoding, UTF-8 without one. */
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
 * Returns the SHA-256 digest of a file that a checksum file states, in lowercase hexadecimal. An entry of exactly that
 * name counts before entries with a path whose base name it is; in the file's `own` checksum file a digest alone counts
 * last. Entries that count alike and differ are none, and so are digests of another length.
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
