import { create, parse } from 'content-disposition'
import fc from 'fast-check'
import t from 'tap'
import { registryError } from '../../../lib/errors.ts'
import { createChecksums } from '../../../backends/gitea/checksums.ts'
import { safeFileName } from '../../../backends/driver/file-name.ts'
import { createSkips } from '../../../backends/cached/skips.ts'
import { maxTags, plainTags, plainText } from '../../../backends/driver/text.ts'
import { createLog } from '../../fakes/log.ts'

/** Characters that must not pass from texts of an upstream to clients. */
const harmful = /[\p{Cc}\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\u{e0001}]/u
const nasty = fc.constantFrom(
  '\0',
  '\r\n',
  '"',
  '\\',
  '/',
  '..',
  '\u202e',
  '\u2066',
  '\ud800',
  '\udc00',
  '\u0085',
  '\u009b',
  '%2e%2e%2f',
  "utf-8''",
  ';',
  '=',
  ' ',
  '\t',
  '\ufeff',
  '\u{e0041}',
  '😀',
  'é',
  '😀'.repeat(99),
  'x'.repeat(190),
  '.'
)
const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.array(fc.oneof(
    nasty,
    fc.string({ unit: 'grapheme' }),
    fc.integer({ min: 0, max: 0xffff }).map(code => String.fromCharCode(code))
  )).map(parts =>
    parts.join('')
  )
)

await t.test('a text of an upstream becomes one line of limited length without misleading characters', t => {
  t.equal(plainText(' a\r\n\tb\0c\u202egpj.exe '), 'a bcgpj.exe')
  t.equal(plainText('x'.repeat(10_000)), 'x'.repeat(256))
  t.equal(plainText('x'.repeat(255) + '😀'), 'x'.repeat(255))
  for (
    const nothing of ['', ' \r\n', '\u200b\u{e0041}', '\u2065\u206a\ufff0', 7, null, undefined, {}]
  ) t.equal(plainText(nothing), undefined)
  t.strictSame(plainTags(['a', 'a ', 7, '\0', 'b\n']), ['a', 'b'])
  t.equal(plainTags(Array.from({ length: 1000 }, (_, at) => `tag-${at}`))?.length, maxTags)
  t.equal(plainTags([]), undefined)
  fc.assert(
    fc.property(anyText, given => {
      const text = plainText(given)
      return text === undefined ||
        (text.length <= 256 && text.isWellFormed() && text === text.trim() && !harmful.test(text) &&
          plainText(text) === text)
    }),
    { numRuns: 2000 }
  )
  t.end()
})

await t.test('any text becomes a safe base name, which clients read unchanged from Content-Disposition', t => {
  t.equal(safeFileName('../../etc/passwd'), 'passwd')
  t.equal(safeFileName('..\\..\\x.tar.gz'), 'x.tar.gz')
  t.equal(safeFileName('a"; filename=evil.exe\r\nSet-Cookie: x'), 'a_; filename=evil.exe_Set-Cookie_ x')
  t.equal(safeFileName('invoice\u202egpj.tar.gz'), 'invoice_gpj.tar.gz')
  t.equal(safeFileName('invoice\u2065\ufff0\u{e0000}.tar.gz'), 'invoice_.tar.gz')
  t.equal(safeFileName(`${'x'.repeat(10_000)}.tar.gz`)?.length, 200)
  for (const nothing of ['', '.', '..', '/', 'a/', '\0', '\ud800', ' ', '\u202e']) {
    t.equal(safeFileName(nothing), undefined)
  }
  fc.assert(
    fc.property(anyText, given => {
      const name = safeFileName(given)
      if (name === undefined) return true
      const header = create(name)
      return name.length <= 200 && name.isWellFormed() && !/^[.\s]|[\\/:*?"<>|]|\s$/.test(name) &&
        !harmful.test(name) &&
        /^[\x20-\x7e]+$/.test(header) && parse(header).parameters['filename'] === name
    }),
    { numRuns: 5000 }
  )
  t.end()
})

await t.test('a text of blanks does not take longer', async t => {
  const blanks = `a${' '.repeat(200_000)}x`
  const text = `${'0'.repeat(64)} x${' '.repeat(100_000)}x`
  const unexpected = (details: string) => registryError('service_unavailable', details)
  const { of } = createChecksums({ attachment: async () => Buffer.from(text), unexpected }, {
    instance: 'gitea',
    immutable: { get: () => Buffer.from(text), set: () => {} }
  })
  const file = (name: string) => ({ id: 1, name, size: Buffer.byteLength(text), uuid: '1' })
  const started = performance.now()
  t.equal(safeFileName(blanks)?.length, 200)
  t.equal(plainText(blanks), 'a')
  t.strictSame(of(file('a'), [file('a.sha256')], {}, () => {}), {})
  t.ok(performance.now() - started < 2000)
})

await t.test('a skipped item is logged without control characters and with limited length', t => {
  const { log, lines } = createLog('debug')
  createSkips({ instance: 'gitea', log }).crawl().skip({
    kind: 'tag',
    reason: 'malformed',
    tag: `a\r\n\u009b\u202e${'x'.repeat(10_000)}`
  })
  t.match(lines[0], /"tag":"a x{510}"/)
  t.end()
})
