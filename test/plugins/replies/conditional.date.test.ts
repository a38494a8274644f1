import fc from 'fast-check'
import t from 'tap'
import { parseHttpDate } from '../../../plugins/replies/conditional.ts'

const now = Date.parse('2026-11-27T00:00:00Z')

await t.test('the three forms of an HTTP-date are parsed as the same time', async t => {
  const time = Date.parse('1994-11-06T08:49:37Z')
  for (const text of ['Sun, 06 Nov 1994 08:49:37 GMT', 'Sunday, 06-Nov-94 08:49:37 GMT', 'Sun Nov  6 08:49:37 1994']) {
    t.equal(parseHttpDate(text, now), time, text)
  }
  t.equal(parseHttpDate('Sun Nov 16 08:49:37 1994', now), Date.parse('1994-11-16T08:49:37Z'))
})

await t.test('a two-digit year is at most fifty years in the future', async t => {
  for (
    const [year, expected] of [['26', 2026], ['70', 2070], ['76', 2076], ['77', 1977], ['94', 1994], ['99', 1999], [
      '00',
      2000
    ]] as const
  ) {
    t.equal(parseHttpDate(`Monday, 01-Jan-${year} 00:00:00 GMT`, now), Date.UTC(expected, 0, 1), year)
  }
  t.equal(
    parseHttpDate('Friday, 27-Nov-76 00:00:00 GMT', now),
    Date.UTC(2076, 10, 27),
    'exactly fifty years are in the future'
  )
  t.equal(
    parseHttpDate('Friday, 27-Nov-76 00:00:01 GMT', now),
    Date.UTC(1976, 10, 27, 0, 0, 1),
    'fifty years and a second are in the past'
  )
})

await t.test('every time is parsed from each form that can express it', async t => {
  const days = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
  fc.assert(fc.property(fc.integer({ min: Date.UTC(1977) / 1000, max: Date.UTC(2076) / 1000 }), seconds => {
    const text = new Date(seconds * 1000).toUTCString()
    const [, day = '', date = '', month = '', year = '', time = ''] =
      /^(\w+), (\d+) (\w+) (\d+) (\S+) GMT$/.exec(text) ?? []
    const forms = [
      text,
      `${days.find(name => name.startsWith(day))}, ${date}-${month}-${year.slice(2)} ${time} GMT`,
      `${day} ${month} ${String(Number(date)).padStart(2)} ${time} ${year}`
    ]
    return forms.every(form => parseHttpDate(form, now) === seconds * 1000)
  }))
  t.equal(
    parseHttpDate('Sat, 01 Jan 0050 00:00:00 GMT', now),
    Date.parse('0050-01-01T00:00:00Z'),
    'a four-digit year is not changed'
  )
  t.equal(parseHttpDate('Sat, 31 Dec 2016 23:59:60 GMT', now), Date.parse('2017-01-01T00:00:00Z'), 'a leap second')
  t.equal(
    parseHttpDate('Mon, 06 Nov 1994 08:49:37 GMT', now),
    Date.parse('1994-11-06T08:49:37Z'),
    'a wrong day of the week is accepted'
  )
})

await t.test('any other text is not a date', async t => {
  for (
    const text of [
      '',
      'yesterday',
      '0',
      '784111777',
      '1994-11-06T08:49:37Z',
      'Sun, 06 Nov 1994 08:49:37',
      'Sun, 06 Nov 1994 08:49:37 UTC',
      'Sun, 06 Nov 1994 08:49:37 +0000',
      'Sun, 6 Nov 1994 08:49:37 GMT',
      'sun, 06 nov 1994 08:49:37 gmt',
      'Sun, 06 Nov 94 08:49:37 GMT',
      'Sun, 31 Feb 1994 08:49:37 GMT',
      'Sun, 00 Nov 1994 08:49:37 GMT',
      'Sun, 06 Nov 1994 24:00:00 GMT',
      'Sun, 06 Nov 1994 08:60:00 GMT',
      'Sun, 06 Nov 1994 08:49:61 GMT',
      ' Sun, 06 Nov 1994 08:49:37 GMT',
      'Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT',
      'Sun, 06-Nov-94 08:49:37 GMT',
      'Wed, 29 Feb 2023 00:00:00 GMT'
    ]
  ) t.equal(parseHttpDate(text, now), undefined, text)
  fc.assert(fc.property(fc.string(), text => parseHttpDate(text, now) === undefined))
})
