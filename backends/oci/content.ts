import { createHash, type Hash } from 'node:crypto'
import { pipeline, Transform, type Readable } from 'node:stream'
import { Value } from '@sinclair/typebox/value'
import { Descriptor, Digest } from '../../schemas/oci.ts'
import { ContentError, type ContentRef } from './transport.ts'

/** Returns whether a text is a digest by the grammar, so that it is safe in a path. */
export const isDigest = (text: string): boolean => Value.Check(Digest, text)

/** Returns a value as a descriptor; undefined when it is malformed. */
export function toDescriptor (value: unknown): Descriptor | undefined {
  return Value.Check(Descriptor, value) ? value : undefined
}

/** Returns the hash of a digest's algorithm; undefined when it cannot be computed here. */
function hashOf (digest: string): Hash | undefined {
  const [algorithm] = digest.split(':', 1)
  return algorithm === 'sha256' || algorithm === 'sha512' ? createHash(algorithm) : undefined
}

const encoded = (digest: string): string => digest.slice(digest.indexOf(':') + 1)

/** Throws a {@link ContentError} unless the bytes have the digest, and when its algorithm cannot be computed here. */
export function verifyBytes (bytes: Buffer, digest: string): void {
  const hash = hashOf(digest)
  if (hash === undefined) throw new ContentError('The digest has an algorithm that cannot be verified')
  if (hash.update(bytes).digest('hex') !== encoded(digest)) {
    throw new ContentError('The content does not match its digest')
  }
}

/**
 * Returns the same stream, verified. It fails with a {@link ContentError} before its last chunk when size or digest
 * differ, so that no client receives wrong content completely. With an algorithm that cannot be computed here only the
 * size is checked; the client receives the digest and may verify it. Destroying the result destroys `source`.
 */
export function verified (source: Readable, { digest, size }: ContentRef): Readable {
  const hash = hashOf(digest)
  let seen = 0
  let held: Buffer | undefined
  const check = new Transform({
    transform (chunk: Buffer, _encoding, done) {
      seen += chunk.length
      if (seen > size) return done(new ContentError('The content is longer than the size in its descriptor'))
      hash?.update(chunk)
      const checked = held
      held = chunk
      done(null, checked)
    },
    flush (done) {
      if (seen !== size) return done(new ContentError('The content is shorter than the size in its descriptor'))
      if (hash !== undefined && hash.digest('hex') !== encoded(digest)) {
        return done(new ContentError('The content does not match its digest'))
      }
      done(null, held)
    }
  })
  // The result itself fails with the error, so the callback ignores it.
  return pipeline(source, check, () => {})
}

/** Returns all bytes of a stream, verified. Throws a {@link ContentError} when they differ from the descriptor. */
export async function readVerified (source: Readable, content: ContentRef): Promise<Buffer> {
  if (hashOf(content.digest) === undefined) {
    source.destroy()
    throw new ContentError('The digest has an algorithm that cannot be verified')
  }
  const chunks: Buffer[] = []
  for await (const chunk of verified(source, content)) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
