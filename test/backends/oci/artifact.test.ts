import { createHash } from 'node:crypto'
import t from 'tap'
import { chooseLayer, fileName } from '../../../backends/oci/layers.ts'
import { chooseArtifact, parseDocument } from '../../../backends/oci/artifact.ts'
import { parsePlatform } from '../../../backends/driver/platform.ts'
import { metadataOf, publishedAt, hasTime } from '../../../backends/oci/metadata.ts'
import { ContentError, type Manifest } from '../../../backends/oci/transport.ts'
import type { Descriptor } from '../../../schemas/oci.ts'
import { indexType, manifestType } from '../../fakes/layout.ts'
import { matchStrictly } from '../../fakes/match.ts'

const digestOf = (bytes: Buffer | string) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const emptyLayer = { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf('{}'), size: 2 }
const layer = (title?: unknown, mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip'): Descriptor => ({
  mediaType,
  digest: digestOf(String(title)),
  size: 10,
  ...(title !== undefined && { annotations: { 'org.opencontainers.image.title': title } })
})
const bodyOf = (body: unknown, mediaType?: string): Manifest => {
  const bytes = Buffer.from(JSON.stringify(body))
  return { digest: digestOf(bytes), bytes, ...(mediaType !== undefined && { mediaType }) }
}
const titled = (...titles: unknown[]) => ({ layers: titles.map(title => layer(title)) })
/** A container image with two layers. */
const container = {
  layers: [layer(), { ...layer(), digest: digestOf('second') }],
  config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digestOf('config'), size: 2 }
}
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

await t.test('the child of an index', async t => {
  /** Returns an index of manifests, and counts their fetches. */
  const indexOf = (children: Array<{ body?: unknown, descriptor?: object }>, annotations?: object) => {
    const fetched: string[] = []
    const store = new Map<string, Manifest>()
    const manifests = children.map(({ body, descriptor }, at) => {
      const manifest = bodyOf(body ?? at)
      if (body !== undefined) store.set(manifest.digest, manifest)
      const isIndex = typeof body === 'object' && body !== null && 'manifests' in body
      return {
        mediaType: isIndex ? indexType : manifestType,
        digest: manifest.digest,
        size: manifest.bytes.length,
        ...descriptor
      }
    })
    const fetch = async ({ digest }: Descriptor) => {
      fetched.push(digest)
      return store.get(digest)
    }
    return {
      root: bodyOf({ mediaType: indexType, manifests, ...(annotations && { annotations }) }),
      fetch,
      fetched,
      store
    }
  }
  const fileOf = async ({ root, fetch }: ReturnType<typeof indexOf>, platform?: string) => {
    const chosen = await chooseArtifact(root, {
      fetch,
      ...(platform !== undefined && { platform: parsePlatform(platform) })
    })
    return typeof chosen === 'string' ? chosen : chosen.file?.digest
  }
  const on = (os: string, architecture: string, variant?: string) => ({
    platform: { os, architecture, ...(variant !== undefined && { variant }) }
  })

  await t.test('the first child with a file is chosen, and later children are not read', async t => {
    const index = indexOf([{ body: container }, { body: titled('a') }, { body: titled('b') }])
    t.equal(await fileOf(index), digestOf('a'))
    t.equal(index.fetched.length, 2)
  })

  await t.test('a child without a file is chosen when no child has a file', async t => {
    t.equal(await fileOf(indexOf([{ body: { layers: [] } }, { body: titled('b') }])), digestOf('b'))
    t.equal(await fileOf(indexOf([{ body: { layers: [] } }])), undefined)
  })

  await t.test('unknown kinds, attestations, malformed descriptors and missing children are skipped', async t => {
    const index = indexOf([
      { body: titled('x'), descriptor: { mediaType: 'application/vnd.example' } },
      { body: titled('y'), descriptor: { platform: { os: 'unknown', architecture: 'unknown' } } },
      { body: titled('z'), descriptor: { annotations: { 'vnd.docker.reference.type': 'attestation-manifest' } } },
      { body: titled('w'), descriptor: { digest: 'sha256:short' } },
      { },
      { body: { layers: 7 } },
      { body: titled('good') }
    ])
    t.equal(await fileOf(index), digestOf('good'))
  })

  await t.test('the reason describes the first unusable child', async t => {
    t.equal(await fileOf(indexOf([{}])), 'missing_content')
    t.equal(await fileOf(indexOf([{ body: { layers: 7 } }, {}])), 'malformed')
    t.equal(await fileOf(indexOf([{ body: container }])), 'not_an_artifact')
    t.equal(await fileOf(indexOf([])), 'not_an_artifact')
  })

  await t.test('a nested index is read, and an endless one is not', async t => {
    const inner = indexOf([{ body: titled('deep') }])
    const outer = indexOf([{ body: JSON.parse(inner.root.bytes.toString()) as unknown }])
    t.equal(
      await fileOf({
        ...outer,
        fetch: async descriptor => await outer.fetch(descriptor) ?? await inner.fetch(descriptor)
      }),
      digestOf('deep')
    )
    let reads = 0
    const endless = {
      mediaType: indexType,
      manifests: Array.from({ length: 50 }, () => ({ ...layer(), mediaType: indexType }))
    }
    t.equal(
      await chooseArtifact(bodyOf(endless), {
        fetch: async () => {
          reads++
          return bodyOf(endless)
        }
      }),
      'not_an_artifact'
    )
    t.ok(reads <= 16)
  })

  await t.test('a child whose descriptor has another letter case or parameters is read', async t => {
    t.equal(
      await fileOf(
        indexOf([{ body: titled('a'), descriptor: { mediaType: `${manifestType.toUpperCase()}; charset=utf-8` } }])
      ),
      digestOf('a')
    )
  })

  await t.test('the child of the requested platform is chosen in any spelling, and no other child is read', async t => {
    const children = [
      { body: titled('amd64'), descriptor: on('linux', 'amd64') },
      { body: titled('arm64'), descriptor: on('linux', 'arm64', 'v8') },
      { body: titled('v6'), descriptor: on('linux', 'arm', 'v6') },
      { body: titled('v7'), descriptor: on('linux', 'arm', 'v7') },
      { body: titled('windows'), descriptor: on('windows', 'amd64') }
    ]
    const expected = {
      'linux/arm64': 'arm64',
      'linux/aarch64': 'arm64',
      'Linux/x86_64': 'amd64',
      'linux/arm/v6': 'v6',
      'linux/arm': 'v7',
      'windows/amd64': 'windows'
    }
    for (const [platform, title] of Object.entries(expected)) {
      const index = indexOf(children)
      t.equal(await fileOf(index, platform), digestOf(title), platform)
      t.equal(index.fetched.length, 1)
    }
    t.equal(await fileOf(indexOf(children)), digestOf('amd64'), 'the first child without a requested platform')
    t.equal(
      await fileOf(indexOf([{ body: { mediaType: indexType, manifests: [] } }, ...children]), 'linux/arm64'),
      digestOf('arm64')
    )
  })

  await t.test('the file of another platform is never served instead of the requested one', async t => {
    const index = indexOf([{ body: titled('amd64'), descriptor: on('linux', 'amd64') }, {
      body: titled('v6'),
      descriptor: on('linux', 'arm', 'v6')
    }])
    for (const platform of ['linux/arm64', 'linux/arm/v7', 'linux/amd64/v3', 'darwin/amd64']) {
      t.equal(await fileOf(index, platform), 'other_platform', platform)
    }
    t.strictSame(index.fetched, [])
    const broken = indexOf([{ body: titled('amd64'), descriptor: on('linux', 'amd64') }, {
      descriptor: on('linux', 'arm64')
    }])
    t.equal(await fileOf(broken, 'linux/arm64'), 'missing_content', 'a child of the platform whose manifest is missing')
  })

  await t.test(
    'a child without a platform matches every platform, with lower priority than a child of that ' +
      'platform',
    async t => {
      const bare = { body: titled('any') }
      t.equal(
        await fileOf(indexOf([bare, { body: titled('amd64'), descriptor: on('linux', 'amd64') }]), 'linux/arm64'),
        digestOf('any')
      )
      t.equal(
        await fileOf(indexOf([bare, { body: titled('arm64'), descriptor: on('linux', 'arm64') }]), 'linux/arm64'),
        digestOf('arm64')
      )
      t.equal(
        await fileOf(indexOf([{ body: titled('any'), descriptor: { platform: { os: 'linux' } } }]), 'linux/arm64'),
        digestOf('any')
      )
      const manifest = bodyOf(titled('plain'))
      matchStrictly(
        t,
        await chooseArtifact(manifest, { fetch: async () => undefined, platform: parsePlatform('linux/arm64') }),
        {
          file: { digest: digestOf('plain') }
        },
        'a manifest without an index'
      )
    }
  )

  await t.test('a requested platform is also found in a nested index', async t => {
    const inner = indexOf([{ body: titled('amd64'), descriptor: on('linux', 'amd64') }, {
      body: titled('arm64'),
      descriptor: on('linux', 'arm64')
    }])
    const outer = indexOf([{ body: JSON.parse(inner.root.bytes.toString()) as unknown }])
    const both = {
      ...outer,
      fetch: async (descriptor: Descriptor) => await outer.fetch(descriptor) ?? await inner.fetch(descriptor)
    }
    t.equal(await fileOf(both, 'linux/arm64'), digestOf('arm64'))
    t.equal(await fileOf(both, 'linux/riscv64'), 'other_platform')
  })

  await t.test('skipped children and layers are reported with the chosen one', async t => {
    const index = indexOf([
      { body: container, descriptor: on('linux', '386') },
      { body: titled('amd64'), descriptor: on('linux', 'amd64') },
      { body: titled('arm64'), descriptor: on('linux', 'arm64') },
      { body: titled('bare') },
      { body: titled('y'), descriptor: on('unknown', 'unknown') }
    ])
    const bare = bodyOf(titled('bare')).digest
    const besides = (chosen: string, ...others: Array<[reason: string, file: string]>) =>
      others.map(([reason, file]) => ({ kind: 'manifest', reason, file, chosen }))
    matchStrictly(t, await chooseArtifact(index.root, { fetch: index.fetch }), {
      passedOver: besides('linux/amd64', ['not_an_artifact', 'linux/386'], ['other_platform', 'linux/arm64'], [
        'not_chosen',
        bare
      ]),
      firstPlatform: 'linux/amd64'
    })
    const required = await chooseArtifact(index.root, { fetch: index.fetch, platform: parsePlatform('linux/arm64') })
    matchStrictly(t, required, {
      passedOver: besides('linux/arm64', ['other_platform', 'linux/386'], ['other_platform', 'linux/amd64'], [
        'not_chosen',
        bare
      ])
    })
    t.notOk(Object.hasOwn(Object(required), 'firstPlatform'))
    const anyPlatform = await chooseArtifact(
      indexOf([{ body: titled('a'), descriptor: on('linux', 'amd64') }, { body: titled('b') }]).root,
      { fetch: index.fetch }
    )
    t.notOk(Object.hasOwn(Object(anyPlatform), 'firstPlatform'))
    matchStrictly(
      t,
      await chooseArtifact(bodyOf(titled('b.zip', 'README.md', 'a.tgz')), { fetch: async () => undefined }),
      {
        passedOver: [{ kind: 'layer', reason: 'not_chosen', file: 'a.tgz', chosen: 'b.zip' }]
      }
    )
  })

  await t.test('a child that is a signature is chosen only when all other children are unusable', async t => {
    const signature = { layers: [layer(undefined, 'application/jose+json')] }
    t.equal(await fileOf(indexOf([{ body: signature }, { body: titled('a') }])), digestOf('a'))
    t.equal(
      await fileOf(
        indexOf([{ body: titled('s'), descriptor: { artifactType: 'application/vnd.cncf.notary.signature.v1+json' } }, {
          body: titled('a')
        }])
      ),
      digestOf('a')
    )
    t.equal(await fileOf(indexOf([{ body: signature }, { body: { layers: [] } }])), signature.layers[0]?.digest)
  })

  await t.test('the nearest annotations are first: manifest, descriptor, index', async t => {
    const index = indexOf([{
      body: { ...titled('a'), annotations: { at: 1 } },
      descriptor: { annotations: { at: 2 } }
    }], { at: 3 })
    matchStrictly(t, await chooseArtifact(index.root, { fetch: index.fetch }), {
      annotations: [{ at: 1 }, { at: 2 }, { at: 3 }]
    })
  })

  await t.test('a failed fetch is an error, and no other child is chosen', async t => {
    const index = indexOf([{ body: titled('a') }, { body: titled('b') }])
    await t.rejects(chooseArtifact(index.root, { fetch: async () => { throw new Error('down') } }), { message: 'down' })
  })
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
