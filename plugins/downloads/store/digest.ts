import { createHash, type Hash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'

/**
 * Digests that can be computed here, and so name content in the store: `sha256:` or `sha512:` and as many hex digits as
 * it takes.
 */
const known = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/

/** A publisher's digest in the form in which content is kept under it; undefined when it can't be computed here. */
export function usableDigest (checksum: string | undefined): string | undefined {
  const digest = checksum?.toLowerCase()
  return digest !== undefined && known.test(digest) ? digest : undefined
}

export const algorithmOf = (digest: string): string => digest.slice(0, digest.indexOf(':'))
export const encodedOf = (digest: string): string => digest.slice(digest.indexOf(':') + 1)

/** The hash that makes digests of the same algorithm; SHA-256 where none is expected. */
export const hashFor = (digest: string | undefined): { algorithm: string, hash: Hash } => {
  const algorithm = digest === undefined ? 'sha256' : algorithmOf(digest)
  return { algorithm, hash: createHash(algorithm) }
}

/** Bytes that are read of a file at once to check it. */
const pieceBytes = 1024 * 1024

/** The digest of a whole file, by the algorithm of `like`. */
export async function readDigest (handle: FileHandle, like: string): Promise<string> {
  const { algorithm, hash } = hashFor(like)
  const piece = Buffer.allocUnsafe(pieceBytes)
  for (let at = 0; ;) {
    const { bytesRead } = await handle.read(piece, 0, piece.length, at)
    if (bytesRead === 0) return `${algorithm}:${hash.digest('hex')}`
    hash.update(piece.subarray(0, bytesRead))
    at += bytesRead
  }
}
