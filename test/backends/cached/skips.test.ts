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

await t.test('an item is kept with its instance, its reason, and the time when it was first skipped', t => {
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

await t.test('an item is gone when a complete crawl no longer meets it', t => {
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

await t.test('an item that only reading the whole extension shows stays until such a read, or the extension, is ' +
  'without it', t => {
  const { skips, crawl, tags } = setting()
  const load = (name: string, ...skipped: Skipped[]) => {
    const { skip, end } = skips.load('provider', name)
    skipped.forEach(skip)
    end()
  }
  load('aws', tag('aws', '1.0.0', 'malformed'), tag('aws', '0.9.0', 'malformed'))
  load('gcp', tag('gcp', '1.0.0', 'malformed'))
  crawl(crawlOf('aws', 'gcp'))
  t.strictSame(tags(), ['1.0.0', '0.9.0', '1.0.0'], 'a crawl reads current versions only')
  load('aws', tag('aws', '1.0.0', 'malformed'))
  t.strictSame(tags(), ['1.0.0', '1.0.0'])
  crawl(crawlOf('aws'))
  t.strictSame(tags(), ['1.0.0'], 'an extension that is gone takes its items along')
  t.end()
})

await t.test('one info line a crawl reports the numbers, and only when they have changed', t => {
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

await t.test('a private repository is counted and never named, in no report and no log line', t => {
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

await t.test('a repository that becomes private is not named any more', t => {
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

await t.test('items are bounded in number, and each new one is counted once by the metric', t => {
  const { skips, counted, crawl } = setting()
  crawl(nothing, ...Array.from({ length: 10_001 }, (_, at) => tag('aws', `t${at}`)), tag('aws', 't0'))
  t.equal(skips.report().items.length, 10_000)
  t.equal(counted.length, 10_000)
  t.end()
})

await t.test('of more items than are kept the same ones stay, in whatever order a crawl meets them, and one line ' +
  'reports it', t => {
  const { skips, counted, crawl, messages } = setting()
  const tags = Array.from({ length: 20_000 }, (_, at) => tag('aws', `t${at}`))
  crawl(nothing, ...tags)
  const { items } = skips.report()
  t.equal(items.length, 10_000)
  crawl(nothing, ...tags.toReversed())
  crawl(nothing, ...tags)
  t.strictSame(skips.report().items, items)
  matchStrictly(t, messages(), [/^more than 10000 items are skipped/, 'skipped 10000 tags: 10000 not_semver'])
  t.equal(counted.length, 10_000, 'not once more at each crawl')
  crawl(nothing, ...tags.slice(5000, 6000))
  t.strictSame(messages(), ['skipped 1000 tags: 1000 not_semver'])
  t.end()
})

await t.test('a repository is kept and logged, however many tags are skipped', t => {
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

await t.test('what is skipped in a repository is counted and not named as long as the repository is refused and was ' +
  'not configured', t => {
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
  t.strictSame(repositories(), ['secret_prov', 'secret_prov'], 'one that was configured')
  t.end()
})

await t.test('where there are more items than are kept, those that are kept stay, in whatever order a crawl meets ' +
  'them', t => {
  const { skips, crawl, messages } = setting()
  const many = Array.from({ length: 12_000 }, (_, at) => tag('aws', `t${at}`))
  crawl(nothing, ...many)
  const kept = skips.report().items
  messages()
  crawl(nothing, ...many.reverse())
  t.ok(isDeepStrictEqual(skips.report().items, kept))
  t.strictSame(messages(), [], 'the numbers are the same')
  t.end()
})
