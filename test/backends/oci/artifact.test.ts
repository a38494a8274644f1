import t from 'tap'
import { chooseLayer, fileName } from '../../../backends/oci/layers.ts'
import { parseDocument } from '../../../backends/oci/artifact.ts'
import { metadataOf, publishedAt, hasTime } from '../../../backends/oci/metadata.ts'
import { ContentError } from '../../../backends/oci/transport.ts'
import { indexType, manifestType } from '../../fakes/layout.ts'
import { bodyOf, container, digestOf, layer, titled } from '../../fakes/manifests.ts'
import { matchStrictly } from '../../fakes/match.ts'

const emptyLayer = { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf('{}'), size: 2 }
const image = (key: string) => `org.opencontainers.image.${key}`
const subject = { type: 'taskserv' as const, name: 'kubernetes' }

await t.test('the only layer is the file, regardless of its title and media type', async t => {
  t.equal(chooseLayer(titled(undefined))?.file?.digest, digestOf('undefined'))
  t.equal(chooseLayer({ layers: [layer('notes.txt', 'text/plain')] })?.file?.digest, digestOf('notes.txt'))
})

await t.test('of several layers the first with the title of an archive is the file', async t => {
  for (const title of ['a.tar.gz', 'a.tgz', 'a.tar.xz', 'a.tar.zst', 'a.tar.bz2', 'a.tar', 'a.zip', 'dir/A.TAR.GZ']) {
    t.equal(chooseLayer(titled('README.md', title, 'later.zip'))?.file?.digest, digestOf(title), title)
  }
})

await t.test('several layers without an archive are not an artifact', async t => {
  t.equal(chooseLayer(container), undefined)
  t.equal(chooseLayer({ layers: [layer('README.md'), layer('a.sha256')] }), undefined)
  t.equal(
    chooseLayer({ layers: [layer(7, 'application/octet-stream'), layer(['a.zip'], 'application/octet-stream')] }),
    undefined
  )
})

await t.test('an empty list of layers, or only the empty layer, means an artifact without a file', async t => {
  t.strictSame(chooseLayer({ layers: [] }), { side: false, others: [] })
  for (
    const mediaType of [
      emptyLayer.mediaType,
      'application/vnd.OCI.empty.v1+JSON',
      'application/vnd.oci.scratch.v1+json'
    ]
  ) t.strictSame(chooseLayer({ layers: [{ ...emptyLayer, mediaType }] }), { side: false, others: [] })
  t.equal(chooseLayer({ layers: [emptyLayer, layer('a')] })?.file?.digest, digestOf('a'))
})

await t.test('the kind of a document is read from its own media type, then from that of the transport, then from its ' +
  'form', async t => {
  t.equal(parseDocument(bodyOf({ mediaType: indexType, manifests: [] }, manifestType))?.kind, 'index')
  t.equal(parseDocument(bodyOf({ manifests: [] }, `${indexType}; charset=utf-8`))?.kind, 'index')
  t.equal(parseDocument(bodyOf({ manifests: [] }))?.kind, 'index')
  t.equal(parseDocument(bodyOf({ layers: [] }))?.kind, 'manifest')
  t.equal(
    parseDocument(bodyOf({ layers: [], mediaType: 'application/vnd.docker.distribution.manifest.v2+json' }))?.kind,
    'manifest'
  )
  t.equal(parseDocument(bodyOf({ layers: [], mediaType: 'application/vnd.example+json' })), undefined)
})

await t.test('the form decides about a document without a media type when the server sends a generic one', async t => {
  const generic = [
    'application/json',
    'application/json; charset=utf-8',
    'Application/JSON',
    'text/plain',
    'text/plain; charset=us-ascii',
    'application/octet-stream',
    'binary/octet-stream',
    'text/json',
    '',
    undefined
  ]
  for (const outer of generic) {
    for (const own of [undefined, null, '']) {
      const what = `${String(outer)}, ${String(own)}`
      t.equal(parseDocument(bodyOf({ layers: [], mediaType: own }, outer))?.kind, 'manifest', what)
      t.equal(parseDocument(bodyOf({ manifests: [], mediaType: own }, outer))?.kind, 'index', what)
    }
    t.equal(
      parseDocument(bodyOf({ layers: [], mediaType: 'application/vnd.example+json' }, outer)),
      undefined,
      'an unknown media type in the document'
    )
  }
})

await t.test('media types are compared without letter case and parameters', async t => {
  for (const spelling of [(type: string) => type.toUpperCase(), (type: string) => ` ${type} ; charset=utf-8`]) {
    t.equal(parseDocument(bodyOf({ layers: [] }, spelling(manifestType)))?.kind, 'manifest')
    t.equal(parseDocument(bodyOf({ manifests: [], mediaType: spelling(indexType) }))?.kind, 'index')
  }
  t.equal(
    parseDocument(bodyOf({ layers: [] }, 'application/vnd.oci.artifact.manifest.v1+json')),
    undefined,
    'an unknown media type of the server'
  )
  t.throws(() => parseDocument(bodyOf({ layers: [] }, indexType)), ContentError, 'a kind other than the server sends')
  t.throws(() => parseDocument(bodyOf({ blobs: [] }, 'application/json')), ContentError, 'neither form')
  t.ok(hasTime({ mediaType: 'application/vnd.OCI.image.config.v1+JSON', digest: digestOf('c'), size: 100 }))
})

await t.test('a malformed or ambiguous document is refused', async t => {
  const refused = [
    { layers: [], manifests: [] },
    { layers: [{ ...layer('a'), digest: 'sha256:../../etc' }] },
    { layers: [{ ...layer('a'), size: -1 }] },
    { layers: 'a' },
    [],
    null,
    'text'
  ]
  for (const body of refused) t.throws(() => parseDocument(bodyOf(body)), ContentError, JSON.stringify(body))
  t.throws(() => parseDocument({ digest: '', bytes: Buffer.from('{"layers":') }), ContentError)
})

await t.test('a file has the title of its layer as its name, reduced to a safe base name', async t => {
  const named = (title: unknown) => fileName(layer(title), { name: 'aws', version: '1.2.0+x' })
  t.equal(named('aws_prov.tar.gz'), 'aws_prov.tar.gz')
  t.equal(named('../../dist/aws.tgz'), 'aws.tgz')
  t.equal(named('C:\\dist\\aws.tgz'), 'aws.tgz')
  t.equal(named('..hidden.zip'), 'hidden.zip')
  for (const title of [undefined, '', '..', 'a/..', '\u202e', 7]) {
    t.equal(named(title), 'aws-1.2.0+x.tar.gz', String(title))
  }
  const wild = named(`a\r\nb\u202e\u0000${'😀'.repeat(300)}.tar.gz`)
  t.ok(wild.length <= 200 && wild.endsWith('.tar.gz') && wild.isWellFormed())
  t.notMatch(wild, /[\p{Cc}\p{Cf}/\\]/u)
})

await t.test('annotations become fields, and missing annotations leave fields absent', async t => {
  t.strictSame(
    metadataOf([{
      [image('description')]: 'Container orchestration',
      [image('title')]: 'K8s',
      [image('vendor')]: 'team',
      [image('authors')]: 'someone',
      [image('source')]: 'https://gitea.example.com/org/kubernetes_taskserv',
      'io.artifacthub.keywords': 'containers, orchestration,,containers '
    }], subject),
    {
      ...subject,
      description: 'Container orchestration',
      author: 'team',
      repository: 'https://gitea.example.com/org/kubernetes_taskserv',
      tags: ['containers', 'orchestration']
    }
  )
  t.strictSame(
    metadataOf([undefined, 'text', null, [], { [image('vendor')]: ' ', 'io.artifacthub.keywords': ',' }], subject),
    { ...subject, description: '' }
  )
  matchStrictly(t, metadataOf([{ [image('title')]: 'K8s', [image('authors')]: 'someone' }], subject), {
    description: 'K8s',
    author: 'someone'
  })
})

await t.test('the nearest annotation is used, unless it has a wrong type', async t => {
  t.equal(
    metadataOf([{ [image('description')]: 'near' }, { [image('description')]: 'far' }], subject).description,
    'near'
  )
  t.equal(metadataOf([{ [image('description')]: 7 }, { [image('description')]: 'far' }], subject).description, 'far')
})

await t.test('texts are one line without control characters and of limited length', async t => {
  const { description, author } = metadataOf([{
    [image('description')]: `a\r\n b\u0000\u001b[31m\u202ec ${'d'.repeat(10_000)}`,
    [image('vendor')]: '😀'.repeat(200)
  }], subject)
  t.ok(description.startsWith('a b[31mc ddd'))
  t.equal(description.length, 4096)
  t.equal(author, '😀'.repeat(128))
  t.equal(metadataOf([{ [image('vendor')]: `x${'😀'.repeat(200)}` }], subject).author, `x${'😀'.repeat(127)}`)
})

await t.test('a repository is an http(s) address without user information', async t => {
  const repository = (source: unknown, url?: unknown) =>
    metadataOf([{ [image('source')]: source, [image('url')]: url }], subject).repository
  t.equal(repository('https://user:secret@git.example.com/a'), 'https://git.example.com/a')
  t.equal(repository('ssh://git@git.example.com/a', 'http://example.com/b'), 'http://example.com/b')
  for (
    const source of [
      'javascript:alert(1)',
      'file:///etc/passwd',
      'git.example.com/a',
      '',
      7,
      `https://example.com/${'a'.repeat(3000)}`
    ]
  ) t.equal(repository(source), undefined, String(source).slice(0, 40))
})

await t.test('the time of publication is read from the nearest annotation, then from the config, else it is ' +
  'unknown', async t => {
  let reads = 0
  const at = async (annotations: unknown[], config?: unknown) =>
    await publishedAt(annotations.map(created => ({ [image('created')]: created })), async () => {
      reads++
      return config === undefined
        ? undefined
        : Buffer.from(typeof config === 'string' ? config : JSON.stringify(config))
    })
  t.equal(await at(['2025-10-06T14:00:00.123+02:00', '2024-01-01T00:00:00Z']), '2025-10-06T12:00:00Z')
  for (
    const bad of [
      'yesterday',
      '1',
      '2025',
      7,
      undefined,
      '2025-13-01T00:00:00Z',
      '0001-01-01T00:00:00Z',
      '1970-01-01T00:00:00Z'
    ]
  ) {
    t.equal(await at([bad, '2024-01-01T00:00:00Z']), '2024-01-01T00:00:00Z', String(bad))
  }
  t.equal(reads, 0, 'the config is not read when an annotation has the time')
  t.equal(await at([undefined], { created: '2023-05-05T05:05:05Z' }), '2023-05-05T05:05:05Z')
  for (const config of [undefined, '{"created"', { created: 7 }, { created: '0001-01-01T00:00:00Z' }, null]) {
    t.equal(await at([], config), '1970-01-01T00:00:00Z', JSON.stringify(config))
  }
})

await t.test('the time is read only from the config of an image, and only from a small one', async t => {
  const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digestOf('c'), size: 100 }
  t.ok(hasTime(config))
  t.notOk(hasTime({ ...config, size: 5 * 1024 * 1024 }))
  t.notOk(hasTime(emptyLayer))
  t.notOk(hasTime(undefined))
})
