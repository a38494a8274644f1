import { homedir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { createStorePaths, defaultDirectory } from '../../../../plugins/downloads/store/directory.ts'

await t.test('the default directory of the store is in the cache directory of the user', async t => {
  t.match(defaultDirectory(['a'], { XDG_CACHE_HOME: '/cache' }), /^\/cache\/extension-registry\/[0-9a-f]{16}$/)
  t.equal(defaultDirectory(['a'], {})?.startsWith(join(homedir(), '.cache', 'extension-registry')), true)
  t.equal(
    defaultDirectory(['a'], { XDG_CACHE_HOME: 'relative' }),
    defaultDirectory(['a'], {}),
    'a relative path is ignored'
  )
})

await t.test('registries with the same upstreams share a directory, others do not', async t => {
  const environment = { XDG_CACHE_HOME: '/cache' }
  t.equal(defaultDirectory(['a', 'b'], environment), defaultDirectory(['b', 'a'], environment))
  t.not(defaultDirectory(['a'], environment), defaultDirectory(['a', 'b'], environment))
})

await t.test('two stores of one process write temporary files under different names', async t => {
  const [one, other] = [createStorePaths('/store'), createStorePaths('/store')]
  t.not(one.own, other.own)
  t.not(one.aside(), one.aside())
  t.equal(one.blob(`sha256:ab${'0'.repeat(62)}`), `/store/blobs/sha256/ab/ab${'0'.repeat(62)}`)
  t.match(one.pin('["anything/../.."]'), /^\/store\/pins\/[0-9a-f]{2}\/[0-9a-f]{64}\.json$/)
})
