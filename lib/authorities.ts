import { X509Certificate } from 'node:crypto'
import { FileProblem, refuseOtherEncodings } from './watched-file.ts'

/** Maximum size in bytes of a file with certificates. */
export const authoritiesBytes = 16 * 1024 * 1024

/**
 * Returns the certificates of a PEM file, each as a separate PEM block; text between them is a comment. Throws a {@link
 * FileProblem} when the file has no certificate or an unreadable one. TLS would silently ignore an unreadable
 * certificate and all after it.
 */
export function parseAuthorities (bytes: Uint8Array): string[] {
  refuseOtherEncodings(bytes)
  // Comments may be in any encoding.
  const text = Buffer.from(bytes).toString('latin1')
  const begin = /-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----/g
  const certificates = [...text.matchAll(/-----BEGIN ((?:TRUSTED |X509 )?CERTIFICATE)-----[^-]*-----END \1-----/g)].map(
    ([block]) => `${block}\n`
  )
  const count = [...text.matchAll(begin)].length
  if (count === 0) throw new FileProblem('expected PEM certificates, but the file has none')
  if (certificates.length < count) throw new FileProblem('expected whole PEM certificates, but one has no end')
  for (const [index, certificate] of certificates.entries()) {
    try {
      void new X509Certificate(certificate)
    } catch {
      throw new FileProblem(`certificate ${index + 1} of ${count} cannot be read`)
    }
  }
  return certificates
}
