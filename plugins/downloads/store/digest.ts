import { createHash, type Hash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'

/**
 * Digests that can be computed here and therefore identify content in the store: `sha256:` or `sha512:` and the hex
 * digits.
 */
const known = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/

/** Returns a published digest in the form of the store's keys; undefined when it cannot be computed here. */
export function usableDigest (checksum: string | undefined): string | undefined {
  const digest = checksum?.toLowerCase()
  return digest !== undefined && known.test(digest) ? digest : undefined
}

export const algorithmOf = (digest: string): string => digest.slice(0, digest.indexOf(':'))
export const encodedOf = (digest: string): string => digest.slice(digest.indexOf(':') + 1)

/** Returns a hash of the same algorithm as a digest; SHA-256 if the digest is undefined. */
export const hashFor = (digest: string | undefined): { algorithm: string, hash: Hash } => {
  const algorithm = digest === undefined ? 'sha256' : algorithmOf(digest)
  return { algorithm, hash: createHash(algorithm) }
}

/** Bytes per read during verification. */
const pieceBytes = 1024 * 1024

/** Returns the digest of a whole file, with the algorithm of the digest `like`. */
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
