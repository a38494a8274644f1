import t from 'tap'
import { chooseArtifact } from '../../../backends/oci/artifact.ts'
import type { Manifest } from '../../../backends/oci/transport.ts'
import { parsePlatform } from '../../../backends/driver/platform.ts'
import type { Descriptor } from '../../../schemas/oci.ts'
import { indexType, manifestType } from '../../fakes/layout.ts'
import { bodyOf, container, digestOf, layer, titled } from '../../fakes/manifests.ts'
import { matchStrictly } from '../../fakes/match.ts'

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
