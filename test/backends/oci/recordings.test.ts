import { readdirSync, readFileSync } from 'node:fs'
import { buffer } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import type { Transport } from '../../../backends/oci/transport.ts'
import { isRegistryError } from '../../../lib/errors.ts'
import { createLoopback, type LoopbackResponse } from '../../fakes/loopback.ts'
import { createRegistryTransport } from '../../fakes/registry-driver.ts'

interface Recording {
  note: string
  request: { method: string, path: string, headers: Record<string, string> }
  response: { status: number, headers: Record<string, string>, json?: unknown, text?: string, base64?: string }
}
type Server = 'docker-registry' | 'zot' | 'gitea'

const folder = new URL('../../recordings/oci/', import.meta.url)
const servers: Server[] = ['docker-registry', 'zot', 'gitea']
const recordings = new Map(servers.map(server => [
  server,
  new Map(
    readdirSync(new URL(`${server}/`, folder))
      .map(
        name => [
          name.replace(/\.json$/, ''),
          JSON.parse(readFileSync(new URL(`${server}/${name}`, folder), 'utf8')) as Recording
        ]
      )
  )
]))

/** Returns a recorded response without its length and transfer coding, because a replaced token has another length. */
function responseOf ({ request, response: { status, headers, json, text, base64 } }: Recording): LoopbackResponse {
  const { 'content-length': length = '', 'transfer-encoding': _coding, ...kept } = headers
  const body = json !== undefined ? JSON.stringify(json) : text ?? Buffer.from(base64 ?? '', 'base64')
  return { status, headers: request.method === 'HEAD' ? { ...kept, 'content-length': length } : kept, body }
}

/** Returns a transport whose registry responds to all requests except authentication with one recording. */
async function replay (t: Test, server: Server, name: string) {
  const found = recordings.get(server)
  const recording = found?.get(name)
  if (found === undefined || recording === undefined) throw new Error(`recording ${server}/${name} is missing`)
  const next = /<([^>]+)>/.exec(recording.response.headers['link'] ?? '')?.[1]
  const fake = await createLoopback(({ path, headers }) => {
    const token = found.get('token-anonymous')
    const isToken = token !== undefined && path.startsWith('/v2/token')
    if (isToken) return { ...responseOf(token), body: '{"token":"recorded"}' }
    if (token !== undefined && headers.authorization === undefined) {
      const ping = found.get('ping')
      if (ping === undefined) throw new Error('the recording of a ping is missing')
      const challenge = ping.response.headers['www-authenticate']?.replace('127.0.0.1:3000', headers.host ?? '')
      return { ...responseOf(ping), headers: { ...ping.response.headers, 'www-authenticate': challenge } }
    }
    // The pages after the recorded one are empty.
    if (path === next) return responseOf(found.get(path.includes('_catalog') ? 'catalog-end' : 'tags-end') ?? recording)
    return path === '/v2/' && !name.startsWith('ping')
      ? responseOf(found.get(token === undefined ? 'ping' : 'ping-with-token') ?? recording)
      : responseOf(recording)
  })
  t.teardown(fake.close)
  return {
    fake,
    transport: createRegistryTransport(t, { registry: fake.url, namespace: 'provisioning', timeout_seconds: 5 })
  }
}

const gcp = 'provisioning/provider/gcp'
const signal = () => AbortSignal.timeout(5000)
const names = (list: string) => list.split(' ').map(name => ({ name }))
const digests = {
  gcp: 'sha256:651a061de4b70dc0929d430e3876a8cfaef8db4d22ec5d3bfa4881c30ecaadfd',
  bare: 'sha256:e39eab50e7a8dc676323742247d8dd1e847abbb91af52bbb08bddfa9a7bf9768',
  multi: 'sha256:a33ee3164b66d9167572356ecf5aee5a6cc53ac024846fe56fdf4abc0a65f143',
  containerd: 'sha256:eba48e5e5091bc58f7c6141f9ab026606515b1782d9a79eef586258133e529da',
  blob: 'sha256:4173688cdc999a531261ebde5079d17902c470ba1dd607265ec6369c0ee36e32'
}
const manifestOf = (digest: string) => async (transport: Transport) => (await transport.manifest(gcp, digest))?.digest
const blob = async (transport: Transport) => {
  const stream = (await transport.blob(gcp, { digest: digests.blob, size: 62 }, { signal: signal() }))?.stream
  return stream === undefined ? undefined : (await buffer(stream)).length
}
const tags = async (transport: Transport) => await transport.tags(gcp)
const repositories = async (transport: Transport) =>
  (await transport.repositories('provisioning')).names.map(name => name.replace('provisioning/', '')).join(' ')
const ping = async (transport: Transport) => {
  await transport.ping(signal())
}

interface Expectation {
  send: (transport: Transport) => Promise<unknown>
  gives: unknown
  but?: Partial<Record<Server, unknown>>
}
const unsorted = names(
  'latest 1.0.0 0.9.0 v1.1.0 2.0.0-beta.1 sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
)
const all =
  'buildkit_cluster cilium_taskserv cluster/multi hetzner-provider provider/aws provider/gcp provider/nightlyonly ' +
  'taskserv/bare taskserv/withreadme taskservs/containerd tools/cli'
const shown = all.replace('provider/nightlyonly ', '')

/** Expected result of each recording, written by hand from the content of the servers. */
const expected: Record<string, Expectation> = {
  // The recorded challenge has the host of the recorded server, which differs from the host of this test.
  ping: { send: ping, gives: undefined, but: { gitea: 'config_error' } },
  'ping-with-token': { send: ping, gives: undefined },
  'token-anonymous': { send: ping, gives: undefined },
  catalog: { send: repositories, gives: all, but: { gitea: shown } },
  'catalog-n': {
    send: repositories,
    gives: 'buildkit_cluster cilium_taskserv cluster/multi hetzner-provider',
    but: { gitea: 'buildkit_cluster cilium_taskserv cluster/multi hetzner-provider provider/aws' }
  },
  'catalog-n-last': {
    send: repositories,
    gives: 'provider/aws provider/gcp provider/nightlyonly taskserv/bare taskserv/withreadme',
    but: { gitea: 'provider/aws provider/gcp taskserv/bare taskserv/withreadme taskservs/containerd' }
  },
  'catalog-end': { send: repositories, gives: '' },
  'catalog-huge-n': { send: repositories, gives: all, but: { 'docker-registry': 'service_unavailable', gitea: shown } },
  tags: {
    send: tags,
    gives: [...unsorted].sort((a, b) => a.name < b.name ? -1 : 1),
    but: { 'docker-registry': unsorted }
  },
  'tags-n': { send: tags, gives: names('0.9.0 1.0.0'), but: { 'docker-registry': unsorted } },
  'tags-n-last': { send: tags, gives: names('2.0.0-beta.1 latest'), but: { 'docker-registry': unsorted } },
  'tags-end': { send: tags, gives: [], but: { 'docker-registry': unsorted, zot: undefined } },
  'tags-missing': { send: tags, gives: undefined },
  manifest: { send: manifestOf(digests.gcp), gives: digests.gcp },
  'manifest-by-digest': { send: manifestOf(digests.gcp), gives: digests.gcp },
  'manifest-bare': { send: manifestOf(digests.bare), gives: digests.bare },
  'manifest-index': { send: manifestOf(digests.multi), gives: digests.multi },
  'manifest-with-build-metadata': { send: manifestOf(digests.containerd), gives: digests.containerd },
  'manifest-without-accept': {
    send: manifestOf(digests.gcp),
    gives: digests.gcp,
    but: { 'docker-registry': undefined }
  },
  'manifest-missing': { send: manifestOf(digests.gcp), gives: undefined },
  'manifest-head': {
    send: async transport => await transport.resolve(gcp, '1.0.0'),
    gives: { digest: digests.gcp, mediaType: 'application/vnd.oci.image.manifest.v1+json' }
  },
  // The request was not conditional, so an empty 304 is invalid.
  'manifest-not-modified': {
    send: manifestOf(digests.gcp),
    gives: digests.gcp,
    but: { 'docker-registry': 'service_unavailable' }
  },
  blob: { send: blob, gives: 62 },
  'blob-missing': { send: blob, gives: undefined },
  // No range was requested, so a partial response is invalid. A server that ignores Range sends the whole file.
  'blob-range': { send: blob, gives: 'service_unavailable', but: { gitea: 62 } },
  'blob-range-past-the-end': { send: blob, gives: 'service_unavailable', but: { gitea: 62 } },
  // There are only headers: missing or empty content is absent.
  'blob-head': {
    send: async transport => await transport.resolve(gcp, '1.0.0').then(target => target?.digest),
    gives: digests.blob
  },
  // Referrers are not requested yet; their responses are not manifests.
  referrers: { send: manifestOf(digests.gcp), gives: 'service_unavailable', but: { zot: 'ContentError' } }
}

const outcome = async (operation: Promise<unknown>) =>
  await operation.catch((error: unknown) =>
    isRegistryError(error)
      ? error.code
      : error instanceof Error && error.name === 'ContentError'
        ? error.name
        : Promise.reject(error)
  )

for (const server of servers) {
  await t.test(`every recording of ${server} is read with the expected result`, async t => {
    const known = [...recordings.get(server)?.keys() ?? []]
    t.ok(known.length >= 25, 'the recordings are found')
    t.strictSame(known.filter(name => !Object.hasOwn(expected, name)), [], 'every recording has an expectation')
    for (const name of known) {
      const expectation = expected[name]
      if (expectation === undefined) continue
      const { send, gives, but = {} } = expectation
      const { transport } = await replay(t, server, name)
      t.strictSame(await outcome(send(transport)), Object.hasOwn(but, server) ? but[server] : gives, name)
    }
  })
}
