import { createHash, type Hash } from 'node:crypto'
import { pipeline, Transform, type Readable } from 'node:stream'
import { Value } from '@sinclair/typebox/value'
import { Descriptor, Digest } from '../../schemas/oci.ts'
import { ContentError, type ContentRef } from './transport.ts'

/** Whether a text is a digest by the grammar, and so may stand in a path. */
export const isDigest = (text: string): boolean => Value.Check(Digest, text)

/** A descriptor as far as it is read; undefined when it is malformed. */
export function toDescriptor (value: unknown): Descriptor | undefined {
  return Value.Check(Descriptor, value) ? value : undefined
}

/** The hash of a digest's algorithm; undefined when it is none of the registered ones that can be computed here. */
function hashOf (digest: string): Hash | undefined {
  const [algorithm] = digest.split(':', 1)
  return algorithm === 'sha256' || algorithm === 'sha512' ? createHash(algorithm) : undefined
}

const encoded = (digest: string): string => digest.slice(digest.indexOf(':') + 1)

/** Throws a {@link ContentError} unless the bytes are what the digest says; also when its algorithm is unknown here. */
export function verifyBytes (bytes: Buffer, digest: string): void {
  const hash = hashOf(digest)
  if (hash === undefined) throw new ContentError('The digest has an algorithm that cannot be verified')
  if (hash.update(bytes).digest('hex') !== encoded(digest)) {
    throw new ContentError('The content does not match its digest')
  }
}

/**
 * The same stream, verified: it fails with a {@link ContentError} before its last chunk when size or digest differ, so
 * that nobody gets wrong content whole. Of an algorithm that cannot be computed here only the size is checked; the
 * publisher's digest goes to the client, who may know it. Destroying the result destroys `source`.
 */
export function verified (source: Readable, { digest, size }: ContentRef): Readable {
  const hash = hashOf(digest)
  let seen = 0
  let held: Buffer | undefined
  const check = new Transform({
    transform (chunk: Buffer, _encoding, done) {
      seen += chunk.length
      if (seen > size) return done(new ContentError('The content is longer than its descriptor says'))
      hash?.update(chunk)
      const checked = held
      held = chunk
      done(null, checked)
    },
    flush (done) {
      if (seen !== size) return done(new ContentError('The content is shorter than its descriptor says'))
      if (hash !== undefined && hash.digest('hex') !== encoded(digest)) {
        return done(new ContentError('The content does not match its digest'))
      }
      done(null, held)
    }
  })
  // The error, if any, is the result's own.
  return pipeline(source, check, () => {})
}

/** All bytes of a stream, verified. Throws a {@link ContentError} when they are not what the descriptor says. */
export async function readVerified (source: Readable, content: ContentRef): Promise<Buffer> {
  if (hashOf(content.digest) === undefined) {
    source.destroy()
    throw new ContentError('The digest has an algorithm that cannot be verified')
  }
  const chunks: Buffer[] = []
  for await (const chunk of verified(source, content)) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
