import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { createRegistryFake, type RegistryContent } from './registry.ts'

interface Recording {
  request: { method: string, path: string, headers: Record<string, string> }
  response: { status: number, headers: Record<string, string>, text?: string, base64?: string }
}

const folder = new URL('../recordings/oci/', import.meta.url)
const sha256 = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
/** Recordings that the fake does not reproduce: it has no referrers and no ranges, and its own tokens. */
const notRequested = /^(?:referrers|blob-range|blob-range-past-the-end|blob-head|token-anonymous)\.json$/
/** Headers that depend on the time or on the machine, or that no client reads. */
const ignored = /^(?:access-control-|content-length|content-type|www-authenticate|date)/

/** Returns the content of the recorded server, as far as the recordings show it. */
function contentFrom (recordings: Map<string, Recording>): RegistryContent {
  const content: RegistryContent = new Map()
  const bodyOf = ({ response }: Recording) => Buffer.from(response.text ?? Buffer.from(response.base64 ?? '', 'base64'))
  const named = (name: string) =>
    JSON.parse(recordings.get(name)?.response.text ?? '{}') as { repositories?: string[], tags?: string[] }
  for (const repository of named('catalog.json').repositories ?? []) {
    content.set(repository, { tags: new Map(), blobs: new Map() })
  }
  const gcp = content.get('provisioning/provider/gcp')
  for (const tag of named('tags.json').tags ?? []) gcp?.tags.set(tag, { digest: '', mediaType: '' })
  for (const recording of recordings.values()) {
    const [, repository = '', reference = ''] =
      /^\/v2\/(.+)\/(?:manifests|blobs)\/(.+)$/.exec(recording.request.path) ?? []
    const bytes = bodyOf(recording)
    if (recording.response.status !== 200 || recording.request.method !== 'GET' || repository === '') continue
    content.get(repository)?.blobs.set(sha256(bytes), bytes)
    if (!reference.includes(':')) content.get(repository)?.tags.set(reference, { digest: sha256(bytes), mediaType: '' })
  }
  return content
}

for (const flavour of ['docker-registry', 'zot', 'gitea'] as const) {
  await t.test(`a response equals the recorded one of ${flavour}`, async t => {
    const recordings = new Map(
      readdirSync(new URL(`${flavour}/`, folder)).map(
        name => [name, JSON.parse(readFileSync(new URL(`${flavour}/${name}`, folder), 'utf8')) as Recording]
      )
    )
    const fake = await createRegistryFake(contentFrom(recordings), { flavour, tokens: ['<redacted>'] })
    t.teardown(fake.close)
    for (const [name, { request, response }] of recordings) {
      if (notRequested.test(name)) continue
      const reply = await fetch(fake.url + request.path, { method: request.method, headers: request.headers })
      t.equal(reply.status, response.status, name)
      for (const [header, value] of Object.entries(response.headers)) {
        if (!ignored.test(header)) t.equal(reply.headers.get(header), value, `${name}: ${header}`)
      }
      const body = Buffer.from(await reply.arrayBuffer())
      // The error texts of Zot are long, and the registry reads only their codes.
      if (response.status < 400 || flavour !== 'zot') {
        t.equal(
          body.toString('latin1'),
          Buffer.from(response.text ?? Buffer.from(response.base64 ?? '', 'base64')).toString('latin1'),
          `${name}: the body`
        )
      }
      const type = response.headers['content-type']
      if (type !== undefined) t.equal(reply.headers.get('content-type') ?? '', type, `${name}: content-type`)
    }
  })
}
