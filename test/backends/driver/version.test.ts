import t from 'tap'
import {
  currentRelease,
  orderReleases,
  tagsByVersion,
  utcSeconds,
  versionOfTag
} from '../../../backends/driver/version.ts'

await t.test('a tag is a version when it is semver, with or without v', async t => {
  const cases: Array<[string, string | undefined]> = [
    ['1.2.0', '1.2.0'], ['v1.2.0', '1.2.0'], ['2.0.0-rc.1', '2.0.0-rc.1'], ['v1.27.5+k3s1', '1.27.5+k3s1'],
    ['nightly', undefined], ['V1', undefined], ['1.2', undefined], ['vv1.2.3', undefined], ['release/1.0.0', undefined],
    ['01.2.3', undefined], ['=1.2.3', undefined], [' 1.2.3', undefined], ['1.2.3 ', undefined], ['', undefined],
    [`1.2.3-${'x'.repeat(200)}`, undefined]
  ]
  for (const [tag, version] of cases) t.equal(versionOfTag(tag), version, JSON.stringify(tag))
})

const release = (version: string, published_at = '2025-01-01T00:00:00Z') => ({ version, published_at })

await t.test('versions are ordered highest first; those of equal precedence newest first, then by text', async t => {
  const ordered = orderReleases([
    release('1.9.0'),
    release('1.10.0'),
    release('2.0.0-rc.1'),
    release('1.10.0+a', '2025-02-01T00:00:00Z'),
    release('1.10.0+b', '2025-02-01T00:00:00Z')
  ]).map(({ version }) => version)
  t.strictSame(ordered, ['2.0.0-rc.1', '1.10.0+a', '1.10.0+b', '1.10.0', '1.9.0'])
})

await t.test('a pre-release is current only without other releases', async t => {
  t.equal(currentRelease(orderReleases([release('2.0.0-rc.1'), release('1.0.0')]))?.version, '1.0.0')
  t.equal(currentRelease(orderReleases([release('2.0.0-rc.1'), release('2.0.0-rc.2')]))?.version, '2.0.0-rc.2')
  t.equal(currentRelease([]), undefined)
})

await t.test('of two tags of one version the tag without v is used, in either order', async t => {
  const skipped: string[] = []
  t.strictSame([...tagsByVersion(['v1.0.0', '1.0.0', 'nightly'], tag => skipped.push(tag))], [['1.0.0', '1.0.0']])
  t.strictSame([...tagsByVersion(['1.0.0', 'v1.0.0'], tag => skipped.push(tag))], [['1.0.0', '1.0.0']])
  t.strictSame(skipped, ['nightly'])
})

await t.test('times are UTC in whole seconds, and an invalid time is undefined', async t => {
  t.equal(utcSeconds('2025-10-06T14:00:00.999+02:00'), '2025-10-06T12:00:00Z')
  t.equal(utcSeconds('yesterday'), undefined)
  t.equal(utcSeconds(undefined), undefined)
})
