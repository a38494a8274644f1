import t from 'tap'
import { createOciSchedule, createTrackedVersions, maxDigestAgeOf } from '../../../backends/oci/tracked-versions.ts'
import { registryError } from '../../../lib/errors.ts'

const extension = { type: 'provider', name: 'a' } as const
const current = {
  metadata: { type: 'provider', name: 'a', description: '', author: '', repository: '' },
  release: { version: '1.0.0', tag: '1.0.0', published_at: '2026-01-01T00:00:00Z', files: [] }
}

function setUp () {
  let result: unknown = current
  const schedule = createOciSchedule({ reconcileSeconds: 3600, minReads: 1, clock: () => 0 })
  const read = async () => {
    if (result instanceof Error) throw result
    return result as never
  }
  const versions = createTrackedVersions({
    current: read,
    all: read,
    isDamaged: () => false,
    oldestDigest: () => Infinity
  }, schedule)
  return { schedule, versions, will: (next: unknown) => { result = next } }
}

await t.test('a name that a client tries is not remembered, unless it has a version or had one', async t => {
  const { schedule, versions, will } = setUp()
  will(undefined)
  for (const name of 'bcd') t.equal(await versions.all(`provider/${name}`, { ...extension, name }), undefined)
  t.equal(schedule.size, 0)
  will(current)
  await versions.current('provider/a', extension)
  will(undefined)
  await versions.all('provider/a', extension)
  t.equal(schedule.size, 1)
  t.equal(schedule.readSince('provider/a', 0)?.result, undefined)
})

await t.test('after a failed read, a repository is read without digests from before', async t => {
  const { schedule, versions, will } = setUp()
  await versions.current('provider/a', extension)
  const rows = [{ name: 'provider/a', state: undefined }]
  will(registryError('service_unavailable', 'no'))
  await t.rejects(versions.current('provider/a', extension))
  t.equal(maxDigestAgeOf(schedule.plan(rows), 3600)('provider/a'), 0)
})
