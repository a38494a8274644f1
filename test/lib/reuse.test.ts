import fc from 'fast-check'
import { isDeepStrictEqual } from 'node:util'
import t from 'tap'
import { reuse, reuseAll } from '../../lib/reuse.ts'

const value = fc.record({
  name: fc.constantFrom('a', 'b'),
  size: fc.nat(1),
  tags: fc.array(fc.constantFrom('x', 'y'), { maxLength: 2 })
}, { requiredKeys: ['name'] })

await t.test('the earlier object is returned if and only if the new object has the same content', async t => {
  fc.assert(
    fc.property(value, value, (before, now) =>
      reuse<object>(before, now) === (isDeepStrictEqual({ ...before }, { ...now }) ? before : now))
  )
  const one = { name: 'a' }
  t.equal(reuse(undefined, one), one)
})

await t.test('the earlier list is returned if all of its items are the same', async t => {
  fc.assert(fc.property(fc.array(value, { maxLength: 3 }), fc.array(value, { maxLength: 3 }), (before, now) => {
    const kept = reuseAll<object>(before, now)
    return isDeepStrictEqual(kept.map(one => ({ ...one })), now.map(one => ({ ...one }))) &&
      (kept === before) === isDeepStrictEqual(before.map(one => ({ ...one })), now.map(one => ({ ...one })))
  }))
  t.equal(reuseAll([{ name: 'a' }], []).length, 0)
})
