import t from 'tap'
import { linkTarget } from '../../lib/link-header.ts'

await t.test('the target of a relation is found in every valid form of the header', async t => {
  const headers: Array<[string | string[] | undefined, string | undefined]> = [
    [undefined, undefined],
    ['', undefined],
    [[], undefined],
    ['</v2/_catalog?last=a%2Fb&n=1>; rel="next"', '/v2/_catalog?last=a%2Fb&n=1'],
    ['</v2/_catalog?n=1&last=a/b>;rel=next', '/v2/_catalog?n=1&last=a/b'],
    ['</p?page=1>; rel="prev" , </p?page=3>; rel="next"', '/p?page=3'],
    ['</p?page=1>;rel=prev,</p?page=3>;rel=next', '/p?page=3'],
    [['</p?page=1>; rel="prev"', '</p?page=3>; rel="next"'], '/p?page=3'],
    ['</a>; title="x, y"; REL="Next"', '/a'],
    ['</a>; rel="last next"', '/a'],
    ['</a>; rel="nextish"', undefined],
    ['</a>; rel="prev"', undefined],
    ['</a?x=1,2>; rel="next"', '/a?x=1,2'],
    ['</a>; rel="prev", </b>; rel="next", </c>; rel="next"', '/b'],
    ['<>; rel="next"', ''],
    ['</a> ; rel = "next"', '/a'],
    ['</a>; crossorigin; rel=next', '/a'],
    ['</a>; rel="next"; crossorigin', '/a'],
    ["</a>; title*=UTF-8''n%c3%a4chste; rel=next", '/a'],
    ['</a>; rel="prev"; rel="next"', undefined],
    ['</a>; title="rel=next", </b>; rel="next"', '/b'],
    ['</a>; title="</x>; rel=next, ", </b>; rel="next"', '/b'],
    ['</a>; title="see \\"</x>; rel=next\\""; rel="next"', '/a'],
    ['</a>; xrel="next"', undefined],
    ['</a>', undefined],
    ['</a>; rel', undefined],
    ['</a>; rel=', undefined],
    ['</a>; rel="next', undefined],
    ['</a; rel="next"', undefined],
    ['/a; rel="next"', undefined],
    ['nonsense, </a>; rel="next"', '/a'],
    ['<, </a>; rel="next"', '/a']
  ]
  for (const [header, target] of headers) t.equal(linkTarget(header, 'next'), target, String(header))
})

await t.test('the target of the given relation is returned', async t => {
  const header = '<https://git.example.com/api/v1/orgs/x/repos?limit=50&page=2>; rel="next",' +
    '<https://git.example.com/api/v1/orgs/x/repos?limit=50&page=9>; rel="last"'
  t.equal(linkTarget(header, 'last'), 'https://git.example.com/api/v1/orgs/x/repos?limit=50&page=9')
  t.equal(linkTarget(header, 'first'), undefined)
  const next = 'https://git.example.com/api/v1/orgs/x/repos?limit=50&page=2'
  t.equal(linkTarget(header, 'next'), next, 'calls do not share a position')
})

await t.test('a hostile header is parsed in linear time', async t => {
  for (const part of ['<', '<a', '<a>;', '<a>; b="', '<a>; rel=x; ', ' ;', '<a>; "', '\\"', '<a>;   ']) {
    const started = performance.now()
    linkTarget(part.repeat(1_000_000 / part.length), 'next')
    t.ok(performance.now() - started < 2000, part)
  }
})
