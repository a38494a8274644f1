import { createHash } from 'node:crypto'
import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { readVerified, verified } from '../../../../backends/oci/content.ts'
import { createLayout, type LayoutOptions } from '../../../../backends/oci/layout/layout.ts'
import { parseReference } from '../../../../backends/oci/layout/index-file.ts'
import { ContentError } from '../../../../backends/oci/transport.ts'
import { createClock } from '../../../fakes/clock.ts'
import {
  halfWriteIndex,
  writeLayout,
  type FakeArtifact,
  type FakeLayoutOptions,
  type Fault
} from '../../../fakes/layout.ts'
import { matchStrictly } from '../../../fakes/match.ts'

const { signal } = new AbortController()
const unavailable = { code: 'service_unavailable', instance: 'oci' }

/** Returns a layout in a new directory, and its transport, whose waits are counted. */
async function layout (
  t: Test,
  artifacts: FakeArtifact[],
  { written = {}, ...options }: Partial<LayoutOptions> & { written?: FakeLayoutOptions } = {}
) {
  const root = join(t.testdir({}), 'root')
  const [first] = await writeLayout(root, artifacts, written)
  const waits: number[] = []
  const sleep = async (milliseconds: number) => { waits.push(milliseconds) }
  const transport = createLayout({ instance: 'oci', registry: root, sleep, ...options })
  const file = first?.file ?? ''
  const size = Buffer.byteLength(`file of ${artifacts[0]?.repository} ${artifacts[0]?.tag}`)
  return { root, transport, waits, manifest: first?.manifest ?? '', content: { digest: file, size } }
}
type Layout = Awaited<ReturnType<typeof layout>>

const names = async ({ transport }: Pick<Layout, 'transport'>, namespace = '') =>
  (await transport.repositories(namespace)).names
const tags = async ({ transport }: Pick<Layout, 'transport'>, repository: string) =>
  (await transport.tags(repository))?.map(({ name }) => name)
const aws: FakeArtifact = { repository: 'provider/aws', tag: '1.0.0' }
const awsAgain: FakeArtifact = { repository: 'provider/aws', tag: '1.1.0' }
const kubernetes: FakeArtifact = { repository: 'taskserv/kubernetes', tag: '1.28.0' }

await t.test('reference names of all tools are read', async t => {
  t.strictSame(parseReference('1.0.0'), { tag: '1.0.0' })
  t.strictSame(parseReference('aws:1.0.0'), { repository: 'aws', tag: '1.0.0' })
  t.strictSame(parseReference('provider/aws:1.0.0+x'), { repository: 'provider/aws', tag: '1.0.0+x' })
  t.strictSame(parseReference('localhost:5000/provider/aws:1.0.0'), { repository: 'provider/aws', tag: '1.0.0' })
  t.strictSame(parseReference('localhost/aws:1.0.0'), { repository: 'aws', tag: '1.0.0' })
  t.strictSame(parseReference('registry.example.com/aws:1.0.0'), { repository: 'aws', tag: '1.0.0' })
  t.strictSame(parseReference('registry.example.com:5000/ns/aws'), { repository: 'ns/aws' })
})

await t.test('a tree has one repository per layout, named by its path', async t => {
  const tree = await layout(t, [aws, awsAgain, kubernetes])
  await mkdir(join(tree.root, '_trivy'))
  await mkdir(join(tree.root, 'empty'))
  await writeFile(join(tree.root, 'README.md'), 'a file')
  t.strictSame(await tree.transport.repositories(''), {
    names: ['provider/aws', 'taskserv/kubernetes'],
    truncated: false
  })
  t.strictSame(await tags(tree, 'provider/aws'), ['1.0.0', '1.1.0'])
  matchStrictly(t, await tree.transport.resolve('provider/aws', '1.0.0'), { digest: tree.manifest })
  t.equal(await tree.transport.resolve('provider/aws', '9.9.9'), undefined)
  for (
    const absent of ['provider', 'provider/gcp', '', '../root/provider/aws', 'provider/./aws', 'provider/aws/blobs']
  ) { t.equal(await tags(tree, absent), undefined, absent) }
})

await t.test('a tree is read only below the namespace, and repositories may be nested', async t => {
  const tree = await layout(t, [{ ...aws, repository: 'ns/aws' }, { ...aws, repository: 'ns/aws/extra' }, {
    ...aws,
    repository: 'ns/aws/blobs/odd'
  }, { ...aws, repository: 'other/aws' }])
  t.strictSame(await names(tree, 'ns'), ['ns/aws', 'ns/aws/extra'])
  t.strictSame(await names(tree, 'none'), [])
  t.strictSame(await names(tree, '../root'), [])
})

await t.test('in a tree the directory decides about the repository: a reference name with another repository is ' +
  'ignored', async t => {
  const reference = ({ tag }: FakeArtifact) =>
    ({ '1.0.0': 'registry.example.com/ns/provider/aws:1.0.0', '1.1.0': 'aws:1.1.0' })[tag] ?? `provider/other:${tag}`
  const tree = await layout(t, [aws, awsAgain, { ...aws, tag: '2.0.0' }], { written: { reference } })
  t.strictSame(await tags(tree, 'provider/aws'), ['1.0.0', '1.1.0'])
})

await t.test('a single layout has the repositories of its reference names', async t => {
  const single = await layout(t, [aws, kubernetes, { repository: '', tag: '3.0.0' }], {
    written: {
      shape: 'single',
      reference: ({ repository, tag }) => repository === '' ? tag : `localhost:5000/${repository}:${tag}`
    }
  })
  t.strictSame(await names(single), ['provider/aws', 'root', 'taskserv/kubernetes'])
  t.strictSame(await tags(single, 'taskserv/kubernetes'), ['1.28.0'])
  t.strictSame(await tags(single, 'root'), ['3.0.0'], 'a tag without a repository belongs to the name of the directory')
  t.equal(await tags(single, ''), undefined)
  t.ok(await single.transport.manifest('provider/aws', single.manifest))
})

await t.test('a tag without a repository belongs to the repository of the containerd image name next to ' +
  'it', async t => {
  const single = await layout(t, [{
    ...aws,
    tagAnnotations: { 'io.containerd.image.name': 'docker.io/provider/aws:1.0.0' }
  }], { written: { shape: 'single', reference: ({ tag }) => tag } })
  t.strictSame(await names(single), ['provider/aws'])
})

await t.test('a malformed descriptor in an index does not affect the others', async t => {
  const junk = [
    null,
    7,
    {},
    {
      mediaType: 'x',
      digest: 'sha256:../../../etc/passwd',
      size: 1,
      annotations: { 'org.opencontainers.image.ref.name': '6.6.6' }
    },
    { mediaType: 'x', digest: `sha256:${'a'.repeat(64)}`, size: 1, annotations: 'text' },
    { mediaType: 'x', digest: `sha256:${'a'.repeat(64)}`, size: 1 }
  ]
  t.strictSame(await tags(await layout(t, [aws], { written: { junk } }), 'provider/aws'), ['1.0.0'])
})

await t.test('a file address is the same as a path; an address with another host is a configuration error', async t => {
  const { root } = await layout(t, [aws])
  t.strictSame(await names({ transport: createLayout({ instance: 'oci', registry: pathToFileURL(root).href }) }), [
    'provider/aws'
  ])
  t.throws(() => createLayout({ instance: 'oci', registry: 'file://elsewhere/root' }), {
    code: 'config_error',
    instance: 'oci'
  })
})

await t.test('manifests are verified with both registered algorithms', async t => {
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const { transport, manifest } = await layout(t, [{ ...aws, algorithm }])
    const read = await transport.manifest('provider/aws', manifest)
    t.equal(`${algorithm}:${createHash(algorithm).update(read?.bytes ?? '').digest('hex')}`, manifest)
    const damaged = await layout(t, [{ ...aws, algorithm, fault: 'wrong manifest' }])
    await t.rejects(damaged.transport.manifest('provider/aws', damaged.manifest), ContentError)
  }
})

await t.test('a manifest above 4 MiB is refused', async t => {
  const tree = await layout(t, [{ ...aws, annotations: { filler: 'x'.repeat(4 * 1024 * 1024) } }])
  await t.rejects(tree.transport.manifest('provider/aws', tree.manifest), ContentError)
})

await t.test('a digest is not a path: content with a malformed digest is absent', async t => {
  const { root, transport } = await layout(t, [aws])
  await writeFile(join(root, 'secret'), 'secret')
  for (
    const digest of [
      'sha256:../../../../secret',
      'x/../../../..:secret',
      '..:../../secret',
      'sha256:',
      'secret',
      `sha256:${'A'.repeat(64)}`
    ]
  ) {
    t.equal(await transport.manifest('provider/aws', digest), undefined, digest)
    t.equal(await transport.blob('provider/aws', { digest, size: 6 }, { signal }), undefined, digest)
  }
})

await t.test('content that is missing or a link out of the root is absent', async t => {
  for (const fault of ['missing blob', 'blob outside'] satisfies Fault[]) {
    const { transport, content } = await layout(t, [{ ...aws, fault }])
    t.equal(await transport.blob('provider/aws', content, { signal }), undefined, fault)
  }
  for (const fault of ['missing manifest', 'manifest outside'] satisfies Fault[]) {
    const { transport, manifest } = await layout(t, [{ ...aws, fault }])
    t.equal(await transport.manifest('provider/aws', manifest), undefined, fault)
  }
})

await t.test('a repository that is a link out of the root is absent, and one inside the root is present', async t => {
  const outside = await layout(t, [kubernetes])
  const tree = await layout(t, [aws])
  await symlink(join(outside.root, 'taskserv'), join(tree.root, 'taskserv'))
  await symlink(join(tree.root, 'provider'), join(tree.root, 'providers'))
  await symlink(tree.root, join(tree.root, 'loop'))
  t.strictSame(await names(tree), ['provider/aws', 'providers/aws'])
  t.equal(await tags(tree, 'taskserv/kubernetes'), undefined)
  t.strictSame(await tags(tree, 'providers/aws'), ['1.0.0'])
})

await t.test('an index that is a link out of the root is not read', async t => {
  const outside = await layout(t, [aws])
  const tree = await layout(t, [aws])
  const index = join(tree.root, 'provider/aws/index.json')
  await rm(index)
  await symlink(join(outside.root, 'provider/aws/index.json'), index)
  await t.rejects(tree.transport.tags('provider/aws'), unavailable)
})

await t.test('a file is opened complete, and read to its end only with the right size and digest', async t => {
  const { transport, content } = await layout(t, [aws])
  const stream = (await transport.blob('provider/aws', content, { signal }))?.stream
  t.equal(String(stream === undefined ? stream : await readVerified(stream, content)), 'file of provider/aws 1.0.0')
  const damaged = await layout(t, [{ ...aws, fault: 'wrong blob' }])
  const wrong = (await damaged.transport.blob('provider/aws', damaged.content, { signal }))?.stream
  let seen = 0
  await t.rejects(async () => {
    if (wrong !== undefined) {
      for await (const chunk of verified(wrong, damaged.content)) seen += (chunk as Buffer).length
    }
  }, ContentError)
  t.ok(seen < damaged.content.size, 'damaged content is never complete')
  const long = await layout(t, [{ ...aws, fault: 'long blob' }])
  await t.rejects(long.transport.blob('provider/aws', long.content, { signal }), ContentError)
})

await t.test('a stream ends when its request is aborted', async t => {
  const { transport, content } = await layout(t, [{ ...aws, layers: [{ content: 'x'.repeat(1024 * 1024) }] }])
  const hangUp = new AbortController()
  const big = { ...content, size: 1024 * 1024 }
  const stream = (await transport.blob('provider/aws', big, { signal: hangUp.signal }))?.stream
  const closed = new Promise(resolve => stream?.once('close', resolve))
  const failed = new Promise(resolve => stream?.once('error', resolve))
  hangUp.abort()
  matchStrictly(t, await failed, { name: 'AbortError' })
  await closed
  t.equal(stream?.destroyed, true)
  await t.rejects(transport.blob('provider/aws', big, { signal: hangUp.signal }), { name: 'AbortError' })
  const source = (await transport.blob('provider/aws', big, { signal }))?.stream
  if (source === undefined) throw new Error('the blob is missing')
  const sourceClosed = new Promise(resolve => source.once('close', resolve))
  verified(source, big).destroy()
  await sourceClosed
  t.pass('destroying the verified stream closes the file')
})

await t.test('an index is parsed again only after a change, by rename or in place', async t => {
  const tree = await layout(t, [aws])
  const parsed = async () => (await tree.transport.tags('provider/aws'))?.[0]?.target
  const before = await parsed()
  t.equal(await parsed(), before, 'the same object')
  const index = join(tree.root, 'provider/aws/index.json')
  const text = await readFile(index, 'utf8')
  await writeFile(index, text.replace('1.0.0', '1.0.1'))
  t.strictSame(await tags(tree, 'provider/aws'), ['1.0.1'])
  await writeFile(`${index}.new`, text)
  await rename(`${index}.new`, index)
  t.strictSame(await tags(tree, 'provider/aws'), ['1.0.0'])
})

await t.test('a half-written index is read again until it is complete', async t => {
  const tree = await layout(t, [aws])
  const index = join(tree.root, 'provider/aws/index.json')
  const whole = await halfWriteIndex(join(tree.root, 'provider/aws'))
  const waits: number[] = []
  const transport = createLayout({
    instance: 'oci',
    registry: tree.root,
    delay: 5,
    sleep: async milliseconds => { if (waits.push(milliseconds) === 2) await writeFile(index, whole) }
  })
  t.strictSame(await tags({ transport }, 'provider/aws'), ['1.0.0'])
  t.strictSame(waits, [5, 5])
})

await t.test('the last valid index is used for a limited time when the index stays damaged', async t => {
  const clock = createClock()
  const tree = await layout(t, [aws], { clock: clock.now, patience: 60_000 })
  t.strictSame(await tags(tree, 'provider/aws'), ['1.0.0'])
  const whole = await halfWriteIndex(join(tree.root, 'provider/aws'))
  t.strictSame(await tags(tree, 'provider/aws'), ['1.0.0'])
  t.equal(tree.waits.length, 3)
  clock.forward(61)
  await t.rejects(tree.transport.tags('provider/aws'), unavailable)
  await writeFile(join(tree.root, 'provider/aws/index.json'), whole)
  t.strictSame(await tags(tree, 'provider/aws'), ['1.0.0'])
})

await t.test('a layout that was never complete fails without its path in the error', async t => {
  const tree = await layout(t, [aws])
  await halfWriteIndex(join(tree.root, 'provider/aws'))
  const error: unknown = await tree.transport.tags('provider/aws').catch((error: unknown) => error)
  matchStrictly(t, error, { ...unavailable, details: 'Image layout is damaged', cause: Error })
  t.notMatch(JSON.stringify(error), tree.root)
  const newer = await layout(t, [kubernetes])
  await writeFile(join(newer.root, 'taskserv/kubernetes/oci-layout'), '{"imageLayoutVersion":"9.0"}')
  await t.rejects(newer.transport.tags('taskserv/kubernetes'), unavailable)
})

await t.test('a missing directory fails all requests, which succeed once it exists', async t => {
  const root = join(t.testdir({}), 'later')
  const transport = createLayout({ instance: 'oci', registry: root })
  const missing = { ...unavailable, message: 'Instance oci is unavailable', details: 'Directory does not exist' }
  await t.rejects(transport.repositories(''), missing)
  await t.rejects(transport.tags('provider/aws'), missing)
  await t.rejects(transport.manifest('provider/aws', `sha256:${'a'.repeat(64)}`), missing)
  await t.rejects(transport.ping(signal), missing)
  await writeFile(root, 'a file')
  await t.rejects(transport.ping(signal), { ...unavailable, details: 'Directory cannot be read' })
  await rm(root)
  await writeLayout(root, [aws])
  await transport.ping(signal)
  t.strictSame(await names({ transport }), ['provider/aws'])
})

await t.test('a ping fails for a damaged single layout', async t => {
  const single = await layout(t, [aws], { written: { shape: 'single' } })
  await single.transport.ping(signal)
  const broken = await layout(t, [aws], { written: { shape: 'single' } })
  await halfWriteIndex(broken.root)
  await t.rejects(broken.transport.ping(signal), unavailable)
  await t.rejects(single.transport.ping(AbortSignal.abort()), { name: 'AbortError' })
})
