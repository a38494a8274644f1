import t from 'tap'
import { choose, parseChallenges } from '../../../../backends/oci/registry/challenge.ts'

const parsed = (header: string | undefined) =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)])

await t.test('challenges are read in the forms that registries write', t => {
  const bearer = ['bearer', {
    realm: 'https://auth.example.com/token',
    service: 'registry',
    scope: 'repository:a/b:pull,push'
  }]
  const headers: Array<[what: string, header: string | undefined, gives: unknown]> = [
    ['no header', undefined, []],
    ['an empty header', '', []],
    ['one', 'Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull,push"', [
      bearer
    ]],
    [
      'blanks around all parts',
      ' bEaReR  realm = "https://auth.example.com/token" , service="registry" ,scope="repository:a/b:pull,push" ',
      [bearer]
    ],
    ['values without quotes', 'basic realm=zot', [['basic', { realm: 'zot' }]]],
    ['an address without quotes', 'Bearer realm=https://auth.example.com/token?x=1,service=registry', [['bearer', {
      realm: 'https://auth.example.com/token?x=1',
      service: 'registry'
    }]]],
    [
      'several in one header',
      'Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull,push", Basic ' +
        'realm="x, y"',
      [bearer, ['basic', { realm: 'x, y' }]]
    ],
    ['a challenge without parameters ' +
      'first', 'Negotiate, Basic realm="x"', [['negotiate', {}], ['basic', { realm: 'x' }]]],
    ['escaped quotes', 'Basic realm="a \\"b\\" c"', [['basic', { realm: 'a "b" c' }]]],
    ['names in capitals', 'BASIC REALM="x"', [['basic', { realm: 'x' }]]],
    ['an empty scope', 'Bearer realm="https://a.example/",scope=""', [['bearer', {
      realm: 'https://a.example/',
      scope: ''
    }]]],
    ['an invalid end', 'Basic realm="x", "', [['basic', { realm: 'x' }]]]
  ]
  for (const [what, header, gives] of headers) t.strictSame(parsed(header), gives, what)
  t.end()
})

await t.test('a token has priority over a password, and an unsupported challenge is undefined', t => {
  t.strictSame(choose('Basic realm="x", Bearer realm="https://a.example/t",service=""'), {
    kind: 'bearer',
    grant: { realm: 'https://a.example/t' }
  })
  t.strictSame(choose('Bearer error="x", Basic realm="x"'), { kind: 'basic' })
  t.equal(choose('Digest realm="x"'), undefined)
  t.equal(choose(undefined), undefined)
  t.end()
})
