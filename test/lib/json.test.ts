import t from 'tap'
import { parseJson } from '../../lib/json.ts'

const parse = (text: string) => parseJson(Buffer.from(text))

await t.test('parseJson returns the same values as JSON.parse', async t => {
  for (
    const text of [
      'null',
      '7',
      '"a"',
      '[]',
      '{}',
      '{"a":[{"b":"[[[[{{{{,,,,"}],"c":"\\"\\\\","d":"\\u005b\u00e4"}',
      `${'['.repeat(64)}${']'.repeat(64)}`,
      JSON.stringify(Array(10_000).fill({ a: 1 }))
    ]
  ) {
    t.strictSame(parse(text), JSON.parse(text))
  }
  t.strictSame(parseJson(Buffer.from('x[1]x').subarray(1, 4)), [1], 'a part of a buffer')
})

await t.test('parseJson refuses text that is not JSON', async t => {
  for (const text of ['', '{', '[1,]', '"a', '"a\\', '"\\', 'undefined', ']']) {
    t.throws(() => parse(text), SyntaxError, text)
  }
})

await t.test('a document with too many levels or values is refused before it is built', async t => {
  for (const text of ['['.repeat(65), `${'{"a":'.repeat(65)}1${'}'.repeat(65)}`, '['.repeat(16 * 1024 * 1024)]) {
    t.throws(() => parse(text), { message: 'The document is nested too deeply' })
  }
  t.throws(() => parse(`[${'0,'.repeat(1_000_000)}0]`), { message: 'The document has too many values' })
  t.throws(() => parse(`[${'[],'.repeat(1_000_000)}0]`), { message: 'The document has too many values' })
})
