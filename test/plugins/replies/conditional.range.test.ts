import fc from 'fast-check'
import t from 'tap'
import { parseRange } from '../../../plugins/replies/conditional.ts'

await t.test('each form of a byte range is parsed', async t => {
  const cases: Array<[header: string | undefined, expected: ReturnType<typeof parseRange>]> = [
    [undefined, 'whole'],
    ['bytes=0-', { start: 0, end: 100 }],
    ['bytes=0-0', { start: 0, end: 1 }],
    ['bytes=10-19', { start: 10, end: 20 }],
    ['bytes=10-1000', { start: 10, end: 100 }],
    ['Bytes = 10-19 ', { start: 10, end: 20 }],
    ['bytes=-10', { start: 90, end: 100 }],
    ['bytes=-1000', { start: 0, end: 100 }],
    ['bytes=99-', { start: 99, end: 100 }],
    ['bytes=100-', 'unsatisfiable'],
    ['bytes=100-200', 'unsatisfiable'],
    ['bytes=99999999999999999999-', 'unsatisfiable'],
    ['bytes=-0', 'unsatisfiable'],
    ['bytes=20-10', 'whole'],
    ['bytes=-', 'whole'],
    ['bytes=0-1,5-6', 'whole'],
    ['bytes=a-b', 'whole'],
    ['lines=0-1', 'whole'],
    ['bytes=0-1x', 'whole'],
    ['', 'whole']
  ]
  for (const [header, expected] of cases) t.strictSame(parseRange(header, 100), expected, header ?? 'none')
  for (const header of ['bytes=0-', 'bytes=-5']) {
    t.equal(parseRange(header, 0), 'unsatisfiable', `${header} of an empty file`)
  }
})

await t.test('a parsed range of any header is not empty and inside the file', async t => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.tuple(fc.nat(), fc.nat()).map(([a, b]) => `bytes=${a}-${b}`),
        fc.nat().map(n => `bytes=-${n}`)
      ),
      fc.nat(),
      (header, size) => {
        const range = parseRange(header, size)
        return typeof range === 'string' || (range.start >= 0 && range.start < range.end && range.end <= size)
      }
    )
  )
  t.pass()
})
