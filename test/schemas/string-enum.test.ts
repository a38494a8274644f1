import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { Value, ValueErrorType } from '@sinclair/typebox/value'
import t from 'tap'
import { enumValues, StringEnum } from '../../schemas/string-enum.ts'

const fruits = ['apple', 'pear'] as const

await t.test('StringEnum is a plain JSON schema with its options after the values', async t => {
  t.equal(JSON.stringify(StringEnum(fruits)), '{"type":"string","enum":["apple","pear"]}')
  const withOptions = StringEnum(fruits, { description: 'Fruit', default: 'pear' })
  t.equal(JSON.stringify(withOptions),
    '{"type":"string","enum":["apple","pear"],"description":"Fruit","default":"pear"}')
})

await t.test('TypeBox validates it, compiled or not, as a required and as an optional key', async t => {
  const fruit = StringEnum(fruits, { default: 'pear' })
  const schema = Type.Object({ fruit, other: Type.Optional(StringEnum(fruits)) })
  const compiled = TypeCompiler.Compile(schema)
  for (const [value, valid] of [
    [{ fruit: 'apple' }, true],
    [{ fruit: 'pear', other: 'apple' }, true],
    [{ fruit: 'Apple' }, false],
    [{ fruit: '' }, false],
    [{ fruit: 1 }, false],
    [{ fruit: null }, false],
    [{ fruit: ['apple'] }, false],
    [{ fruit: 'apple', other: 'plum' }, false],
    [{}, false]
  ] as const) {
    t.equal(Value.Check(schema, value), valid, JSON.stringify(value))
    t.equal(compiled.Check(value), valid, `${JSON.stringify(value)} compiled`)
  }
  t.strictSame(Value.Default(schema, {}), { fruit: 'pear' })
  const errors = [...Value.Errors(schema, { fruit: 'plum' })].map(({ path, type }) => ({ path, type }))
  t.strictSame(errors, [{ path: '/fruit', type: ValueErrorType.Kind }])
})

await t.test('enumValues returns the values of a StringEnum, and undefined for other schemas', async t => {
  t.strictSame(enumValues(StringEnum(fruits)), fruits)
  t.equal(enumValues(Type.String()), undefined)
  t.equal(enumValues(Type.Union([Type.Literal('apple')])), undefined)
})
