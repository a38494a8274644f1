import t from 'tap'
import { preferredCoding } from '../../../plugins/replies/representation.ts'

await t.test('the coding with the highest quality is chosen, in the order of the server if equal', async t => {
  for (const [accepted, coding] of [
    ['gzip, deflate, br, zstd', 'br'],
    ['gzip', 'gzip'],
    ['GZIP', 'gzip'],
    ['br;q=0.5, gzip;q=0.8', 'gzip'],
    ['gzip ; q=0.9 , br; q=0.9', 'br'],
    ['*', 'br'],
    ['*;q=0.1', 'br'],
    ['br;q=0, *', 'gzip'],
    ['br;q=0', undefined],
    ['br;q=0, gzip', 'gzip'],
    ['*;q=0', undefined],
    ['*;q=0, gzip', 'gzip'],
    ['identity', undefined],
    ['identity;q=0.5, br;q=0.2', undefined],
    ['identity;q=0.5, gzip;q=0.8', 'gzip'],
    ['identity, br', 'br'],
    ['identity;q=0', undefined],
    ['deflate, zstd', undefined],
    ['br;q=zero', undefined],
    ['', undefined],
    [';q=1,,', undefined]
  ] as const) t.equal(preferredCoding(['br', 'gzip'], accepted), coding, accepted)
})
