import { isDeepStrictEqual } from 'node:util'
import t from 'tap'
import type { Crawl, Skipped } from '../../../backends/driver/driver.ts'
import { createSkips } from '../../../backends/cached/skips.ts'
import { createLog } from '../../fakes/log.ts'
import { matchStrictly } from '../../fakes/match.ts'

const tag = (name: string, tag: string, reason: Skipped['reason'] = 'not_semver'): Skipped => ({
  kind: 'tag',
  reason,
  type: 'provider',
  name,
  repository: `${name}_prov`,
  tag
})
const nothing: Crawl = { found: [], failed: [] }
const crawlOf = (...names: string[]): Crawl => ({
  failed: [],
  found: names.map(name => ({
    metadata: { type: 'provider', name, description: '' },
    release: { version: '1.0.0', published_at: '2025-01-01T00:00:00Z' }
  }))
})

function setting () {
  const { log, lines } = createLog('info')
  const counted: string[] = []
  let now = Date.parse('2025-10-06T12:00:00.500Z')
  const skips = createSkips({ instance: 'gitea', log, count: reason => { counted.push(reason) }, wallClock: () => now })
  const crawl = (result: Crawl, ...skipped: Skipped[]) => {
    const { skip, end } = skips.crawl()
    skipped.forEach(skip)
    end(result)
  }
  const messages = () => lines.splice(0).map(line => (JSON.parse(line) as { msg: string }).msg)
  const tags = () => skips.report().items.map(({ tag }) => tag)
  return { skips, counted, crawl, messages, tags, later: (seconds: number) => { now += seconds * 1000 } }
}

await t.test('a skipped item is kept with its instance, its reason and the time of its first skip', t => {
  const { skips, crawl, later } = setting()
  crawl(nothing, tag('aws', 'nightly'))
  later(60)
  crawl(nothing, tag('aws', 'nightly'))
  t.strictSame(skips.report(), {
    items: [{
      instance: 'gitea',
      kind: 'tag',
      reason: 'not_semver',
      type: 'provider',
      name: 'aws',
      repository: 'aws_prov',
      tag: 'nightly',
      since: '2025-10-06T12:00:00Z'
    }],
    counts: [{ instance: 'gitea', kind: 'tag', reason: 'not_semver', count: 1 }]
  })
  t.end()
})

await t.test('an item is removed when a complete crawl no longer skips it', t => {
  const { crawl, tags } = setting()
  crawl(nothing, tag('aws', 'nightly'), tag('aws', 'edge'))
  crawl(nothing, tag('aws', 'edge'))
  t.strictSame(tags(), ['edge'])
  t.end()
})

await t.test('an item stays when a crawl is truncated, did not read its repository, or found it unchanged', t => {
  const { crawl, tags } = setting()
  crawl(nothing, tag('aws', 'nightly'))
  crawl({ ...nothing, truncated: true })
  t.strictSame(tags(), ['nightly'], 'truncated')
  crawl({ ...nothing, failed: [{ type: 'provider', name: 'aws', error: undefined as never }] })
  t.strictSame(tags(), ['nightly'], 'failed')
  crawl({ ...nothing, unchanged: new Set(['aws_prov']) })
  t.strictSame(tags(), ['nightly'], 'unchanged')
  crawl({ ...nothing, unchanged: new Set(['gcp_prov']) })
  t.strictSame(tags(), [])
  t.end()
})

await t.test('an item that only a load of the extension finds stays until a load without it, or until the extension ' +
  'is absent', t => {
  const { skips, crawl, tags } = setting()
  const load = (name: string, ...skipped: Skipped[]) => {
    const { skip, end } = skips.load('provider', name)
    skipped.forEach(skip)
    end()
  }
  load('aws', tag('aws', '1.0.0', 'malformed'), tag('aws', '0.9.0', 'malformed'))
  load('gcp', tag('gcp', '1.0.0', 'malformed'))
  crawl(crawlOf('aws', 'gcp'))
  t.strictSame(tags(), ['1.0.0', '0.9.0', '1.0.0'], 'a crawl reads only current versions')
  load('aws', tag('aws', '1.0.0', 'malformed'))
  t.strictSame(tags(), ['1.0.0', '1.0.0'])
  crawl(crawlOf('aws'))
  t.strictSame(tags(), ['1.0.0'], 'an absent extension removes its items')
  t.end()
})

await t.test('a load of the extension removes an item that a crawl found and the load did not, except a whole ' +
  'repository and a checksum file', t => {
  const { skips, crawl } = setting()
  const others = (['repository', 'checksum_file'] as const).map(kind => ({ ...tag('aws', 'latest'), kind }))
  crawl(crawlOf('aws'), tag('aws', 'latest'), tag('gcp', 'latest'), ...others)
  skips.load('provider', 'aws').end()
  t.strictSame(skips.report().items.map(({ name, kind }) => `${name} ${kind}`), [
    'gcp tag',
    'aws repository',
    'aws checksum_file'
  ])
  t.end()
})

await t.test('each crawl reports its numbers in one info line, and only when they have changed', t => {
  const { crawl, messages } = setting()
  crawl(nothing)
  t.strictSame(messages(), [])
  const four = [tag('aws', 'a'), tag('aws', 'b'), tag('aws', 'c'), tag('aws', '1.0.0', 'not_an_artifact')]
  crawl(nothing, ...four)
  t.strictSame(messages(), ['skipped 4 tags: 3 not_semver, 1 not_an_artifact'])
  crawl(nothing, ...four)
  t.strictSame(messages(), [])
  crawl(nothing, tag('aws', 'a'), { kind: 'repository', reason: 'mirror', repository: 'x_prov' })
  t.strictSame(messages(), ['skipped 1 repository: 1 mirror; 1 tag: 1 not_semver'])
  crawl(nothing)
  t.strictSame(messages(), ['nothing is skipped any more'])
  t.end()
})

await t.test('a private repository is counted and never named in reports or log lines', t => {
  const { log, lines } = createLog('trace')
  const skips = createSkips({ instance: 'gitea', log })
  const { skip, end } = skips.crawl()
  for (const name of ['secret', 'hidden']) {
    skip({ kind: 'repository', reason: 'private', type: 'provider', name, repository: `${name}_prov` })
  }
  end(nothing)
  t.strictSame(skips.report(), {
    items: [],
    counts: [{ instance: 'gitea', kind: 'repository', reason: 'private', count: 2 }]
  })
  t.match(lines.join(''), 'skipped 2 repositories: 2 private')
  t.notMatch(lines.join(''), /secret|hidden/)
  t.end()
})

await t.test('a repository that becomes private is no longer named', t => {
  const { skips, crawl } = setting()
  const mirror: Skipped = {
    kind: 'repository',
    reason: 'mirror',
    type: 'provider',
    name: 'aws',
    repository: 'aws_prov'
  }
  crawl(nothing, mirror)
  t.equal(skips.report().items.length, 1)
  crawl(nothing, { ...mirror, hidden: true })
  matchStrictly(t, skips.report(), { items: [], counts: [{ reason: 'mirror', count: 1 }] })
  t.end()
})

await t.test('the number of items is limited, and the metric counts each new item once', t => {
  const { skips, counted, crawl } = setting()
  crawl(nothing, ...Array.from({ length: 10_001 }, (_, at) => tag('aws', `t${at}`)), tag('aws', 't0'))
  t.equal(skips.report().items.length, 10_000)
  t.equal(counted.length, 10_000)
  t.end()
})

await t.test('above the limit the same items stay in any order of a crawl, and one line reports the limit', t => {
  const { skips, counted, crawl, messages } = setting()
  const tags = Array.from({ length: 20_000 }, (_, at) => tag('aws', `t${at}`))
  crawl(nothing, ...tags)
  const { items } = skips.report()
  t.equal(items.length, 10_000)
  crawl(nothing, ...tags.toReversed())
  crawl(nothing, ...tags)
  t.strictSame(skips.report().items, items)
  matchStrictly(t, messages(), [/^more than 10000 items are skipped/, 'skipped 10000 tags: 10000 not_semver'])
  t.equal(counted.length, 10_000, 'items are not counted again at each crawl')
  crawl(nothing, ...tags.slice(5000, 6000))
  t.strictSame(messages(), ['skipped 1000 tags: 1000 not_semver'])
  t.end()
})

await t.test('a repository is kept and logged regardless of the number of skipped tags', t => {
  const { skips, crawl, messages } = setting()
  crawl(nothing, ...Array.from({ length: 10_001 }, (_, at) => tag('aws', `t${at}`)), {
    kind: 'repository',
    reason: 'refused',
    type: 'provider',
    name: 'secret',
    repository: 'provider/secret'
  })
  matchStrictly(t, messages(), [
    /^more than 10000 items/,
    /^the upstream refuses a configured repository/,
    'skipped 1 repository: 1 refused; 10000 tags: 10000 not_semver'
  ])
  t.equal(skips.report().items.filter(({ reason }) => reason === 'refused').length, 1)
  t.end()
})

await t.test('skipped items of a refused repository are counted and not named unless the repository is ' +
  'configured', t => {
  const { skips, crawl } = setting()
  const refused = (hidden: boolean): Skipped => ({
    kind: 'repository',
    reason: 'refused',
    type: 'provider',
    name: 'secret',
    repository: 'secret_prov',
    hidden
  })
  const result: Crawl = { ...nothing, refused: [{ type: 'provider', name: 'secret', error: undefined as never }] }
  const repositories = () => skips.report().items.map(({ repository }) => repository)
  crawl(nothing, tag('secret', 'nightly'), tag('aws', 'nightly'))
  t.strictSame(repositories(), ['secret_prov', 'aws_prov'])
  crawl(result, refused(true), tag('aws', 'nightly'))
  t.strictSame(repositories(), ['aws_prov'])
  matchStrictly(t, skips.report().counts, [{ reason: 'refused', count: 1 }, { reason: 'not_semver', count: 2 }])
  crawl(nothing, tag('secret', 'nightly'))
  t.strictSame(repositories(), ['secret_prov'], 'no longer refused')
  crawl(result, refused(false))
  t.strictSame(repositories(), ['secret_prov', 'secret_prov'], 'a configured repository is named')
  t.end()
})

await t.test('above the limit the kept items stay when a crawl finds them in reverse order', t => {
  const { skips, crawl, messages } = setting()
  const many = Array.from({ length: 12_000 }, (_, at) => tag('aws', `t${at}`))
  crawl(nothing, ...many)
  const kept = skips.report().items
  messages()
  crawl(nothing, ...many.reverse())
  t.ok(isDeepStrictEqual(skips.report().items, kept))
  t.strictSame(messages(), [], 'unchanged numbers are not logged')
  t.end()
})
