import { createHash } from 'node:crypto'
import type { Manifest } from '../../backends/oci/transport.ts'
import type { Descriptor } from '../../schemas/oci.ts'

/** Returns the digest of content. */
export const digestOf = (bytes: Buffer | string) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
/** Returns the descriptor of a layer, whose content depends on its title. */
export const layer = (title?: unknown, mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip'): Descriptor => ({
  mediaType,
  digest: digestOf(String(title)),
  size: 10,
  ...(title !== undefined && { annotations: { 'org.opencontainers.image.title': title } })
})
/** Returns a manifest or an index with its digest. */
export const bodyOf = (body: unknown, mediaType?: string): Manifest => {
  const bytes = Buffer.from(JSON.stringify(body))
  return { digest: digestOf(bytes), bytes, ...(mediaType !== undefined && { mediaType }) }
}
/** Returns the layers of a manifest with these titles. */
export const titled = (...titles: unknown[]) => ({ layers: titles.map(title => layer(title)) })
/** A container image with two layers. */
export const container = {
  layers: [layer(), { ...layer(), digest: digestOf('second') }],
  config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digestOf('config'), size: 2 }
}
