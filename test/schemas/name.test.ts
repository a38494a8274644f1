import fc from 'fast-check'
import t from 'tap'
import { isExtensionName, isPathPart, maxNameLength } from '../../schemas/name.ts'

await t.test('a name begins with a letter or digit and holds no separator, escape or line break', async t => {
  const longest = 'x'.repeat(maxNameLength)
  for (const name of ['a', '9', 'kubernetes', 'K8s_1.2-x', 'a..b', longest]) t.equal(isExtensionName(name), true, name)
  for (const name of ['', '.', '..', '.a', '-a', '_trivy', 'a/b', 'a%2Fb', 'a b', 'ä', 'a\n', '\na', `${longest}x`]) {
    t.equal(isExtensionName(name), false, JSON.stringify(name))
  }
  t.equal(isPathPart(`${longest}x`), true, 'a directory may have a longer name')
})

await t.test('the length limit is the same as that of a pattern whose repeat has a limit', async () => {
  const unit = fc.constantFrom('a', 'Z', '0', '.', '_', '-', '/', '\n', 'é')
  fc.assert(fc.property(fc.string({ unit, maxLength: 140, size: 'max' }), text =>
    isExtensionName(text) === /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(text)))
})
