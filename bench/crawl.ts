import { once } from 'node:events'
import { cpus } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import registry, { serverOptions } from '../app.ts'
import type { Backend } from '../backends/cached/backend.ts'
import type { Extension } from '../schemas/extension.ts'
import { createClock } from '../test/fakes/clock.ts'
import { writePart } from './document.ts'
import type { Order, OciSource, Sizes, Source, Observed } from './crawl-upstreams.ts'

/*
 * Measures the requests that the registry needs to read its upstreams and to keep the catalog current. `npm run
 * bench:crawl` prints the tables and writes them to docs/performance.md. Ends with code 1 if a crawl exceeds its limit
 * of requests or time.
 */

const sizes: Sizes = { extensions: 1000, repositories: 5000, artifacts: 1000 }
/** Milliseconds that an upstream takes for each response. */
const latency = 20
const allowance = 1.3
/** `ttl_seconds`, and the part of it after which a listing in use is crawled again. */
const [ttl, refreshAhead] = [300, 0.8]
/** Seconds in which every repository is read once, even if no change is visible: each crawl reads its share of them. */
const reconcile = 3600
const sources = ['gitea', 'oci', 'harbor', 'zot'] as const
/** Default of `oci.crawl_repositories`. */
const minReads = 130
/** Returns the number of repositories that a crawl reads without a visible change. */
const share = (source: Source): number =>
  showsChanges[source] ? Math.floor(sizes.extensions * (ttl * refreshAhead + 1) / reconcile) : minReads
/** Requests for one such repository. Gitea: its releases. OCI: its tags, and the digest of the current one. */
const perRepository: Record<Source, number> = { gitea: 1, oci: 2, harbor: 2, zot: 2 }
/** Whether the upstream's list of repositories shows changes. */
const showsChanges: Record<Source, boolean> = { gitea: true, oci: false, harbor: true, zot: true }
/** Maximum requests of an idle hour, probes included; undefined if there is no aim. */
const hourAim: Partial<Record<Source, number>> = { oci: 4500 }
/** Number of extensions that get a new version between two crawls. */
const changed = sizes.extensions / 100

const concurrency = 8
/** Maximum concurrent requests of a crawl: for Gitea, two are reserved for client requests. */
const atOnce: Record<Source, number> = {
  gitea: concurrency - 2,
  oci: concurrency,
  harbor: concurrency,
  zot: concurrency
}
/** Requests for the list of repositories. Zot: the catalog, and pages of 500 repositories with their newest image. */
const pages: Record<Source, number> = {
  gitea: Math.ceil(sizes.repositories / 50),
  oci: Math.ceil(sizes.artifacts / 1000),
  harbor: Math.ceil(sizes.artifacts / 100),
  zot: Math.ceil(sizes.artifacts / 1000) + Math.ceil(sizes.artifacts / 500)
}
/** Returns the requests that wait for each other: each page of a registry's list has the address of the next one. */
const sequential = (source: Source): number => source === 'gitea' ? 0 : pages[source]
/**
 * Minimum number of requests of a crawl: the list, and two for each new or changed extension. For Gitea these are the
 * releases and a checksum file, for OCI the tags and a manifest. A change that no list shows needs no request.
 */
function fewest (source: Source, kind: keyof typeof kinds): number {
  const read = kind === 'cold' ? sizes.extensions : kind === 'changed' && showsChanges[source] ? changed : 0
  return pages[source] + 2 * read
}
const kinds = { cold: 'first', unchanged: 'no change', changed: '1 % has a new version' } as const
const titles: Record<Source, string> = {
  gitea: `Gitea, ${sizes.extensions} extensions of ${sizes.repositories} repositories`,
  oci: `OCI registry, ${sizes.artifacts} repositories`,
  harbor: `Harbor, ${sizes.artifacts} repositories`,
  zot: `Zot with search, ${sizes.artifacts} repositories`
}

const upstreams = new Worker(new URL('./crawl-upstreams.ts', import.meta.url), { workerData: sizes })
/** Sends an order to the upstreams; returns the requests since the last order. */
async function send (order: Order): Promise<Observed> {
  upstreams.postMessage(order)
  const [observed] = await once(upstreams, 'message') as [Observed]
  return observed
}
const requests = async (source: Source): Promise<number> => (await send({ order: 'count' })).requests[source]

interface Running { app: FastifyInstance, instance: Backend, clock: ReturnType<typeof createClock> }

const ociConfig = (source: OciSource, registry: string) => ({
  registry,
  namespace: 'org',
  concurrency,
  reconcile_seconds: reconcile,
  ...(source === 'harbor' && { discovery: 'harbor' as const })
})

/** Starts a registry over one upstream, with a clock that moves only on command, and without probes after the first. */
async function start (source: Source, url: string): Promise<Running> {
  const clock = createClock()
  const app = Fastify({ ...serverOptions(), logger: false })
  await app.register(fp(registry), {
    config: {
      server: { request_budget_seconds: 120 },
      store: { enabled: false },
      cache: { capacity: 100_000, ttl_seconds: ttl },
      ...source === 'gitea'
        ? { gitea: { url, organization: 'org', concurrency, reconcile_seconds: reconcile } }
        : { oci: ociConfig(source, url) }
    },
    clock: clock.now,
    probeInterval: 3_600_000
  })
  const [instance] = source === 'gitea' ? app.gitea.instances : app.oci.instances
  if (instance === undefined) throw new Error('no instance')
  return { app, instance, clock }
}

async function list (app: FastifyInstance, version: string, count: number): Promise<void> {
  const response = await app.inject('/api/v1/extensions?limit=1000')
  const found = response.statusCode === 200 ? response.json<Extension[]>() : []
  const right = found.filter(extension => extension.version === version).length
  if (found.length !== 1000 || right !== count) {
    throw new Error(`The catalog is wrong: ${response.statusCode}, ${found.length} extensions, ${right} at ${version}`)
  }
}

/** Crawls an expired listing as a probe does; returns the duration in seconds. */
async function crawl ({ instance, clock }: Running): Promise<number> {
  const { loads } = instance
  clock.forward(ttl * refreshAhead + 1)
  const began = performance.now()
  instance.refresh()
  while (instance.loads === loads) {
    if (instance.failure !== undefined) throw instance.failure
    await delay(1)
  }
  return (performance.now() - began) / 1000
}

interface Crawl { source: Source, kind: keyof typeof kinds, requests: number, seconds: number }
const crawls: Crawl[] = []
const steady: string[] = []
/** Limits that are exceeded. */
const missed: string[] = []
const round = (value: number, digits = 0): string =>
  value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })

/** Measures the upstream requests of an hour without clients: crawls, and probes every 15 seconds. */
async function idleHour (
  source: Source,
  running: Running
): Promise<{ crawlCount: number, requests: number, probes: number }> {
  const expected = Math.floor(3600 / (ttl * refreshAhead))
  await send({ order: 'delay', milliseconds: 0 })
  let requested = 0
  for (let at = 0; at < expected; at++) {
    await crawl(running)
    requested += await requests(source)
  }
  return { crawlCount: expected, requests: requested, probes: 3600 / 15 }
}

/** Measures the upstream requests of 1,000 client requests while all entries are fresh. */
async function clients (
  source: Source,
  { app }: Running,
  path: (at: number, extension: Extension) => string
): Promise<number> {
  const all = (await app.inject('/api/v1/extensions?limit=1000')).json<Extension[]>()
  await requests(source)
  for (const [at, extension] of all.entries()) {
    const { statusCode } = await app.inject(path(at, extension))
    if (statusCode !== 200) throw new Error(`${path(at, extension)}: ${statusCode}`)
  }
  return await requests(source)
}

async function measure (source: Source, url: string): Promise<void> {
  const note = async (kind: Crawl['kind'], seconds: number) => {
    crawls.push({ source, kind, seconds, requests: await requests(source) })
  }
  const running = await start(source, url)
  const { app } = running
  await send({ order: 'delay', milliseconds: latency })
  const began = performance.now()
  await app.ready()
  await list(app, '1.2.0', 1000)
  await note('cold', (performance.now() - began) / 1000)
  await note('unchanged', await crawl(running))
  await send({ order: 'publish', source, count: changed, version: '2.0.0' })
  await note('changed', await crawl(running))
  // Without a sign of changes, every repository is read in time.
  if (!showsChanges[source]) {
    running.clock.forward(reconcile)
    await crawl(running)
  }
  await list(app, '2.0.0', changed)

  // Changed repositories are requested again for a while, so the idle hour begins after that time.
  running.clock.forward(3600)
  await crawl(running)
  await requests(source)
  const hour = await idleHour(source, running)
  const aim = hourAim[source] ?? Infinity
  if (hour.requests + hour.probes > aim) missed.push(`${source}: ${hour.requests + hour.probes} requests, not ${aim}`)
  const looking = await clients(source, running, (at, { type, name }) => {
    const page = `/api/v1/extensions?limit=10&offset=${at}`
    return [
      page,
      page,
      `/api/v1/extensions/search?q=${at}&type=${type}`,
      `/api/v1/extensions/${type}/${name}`,
      `/api/v1/extensions/${type}/${name}`
    ][at % 5] ?? page
  })
  const versions = await clients(
    source,
    running,
    (_at, { type, name }) => `/api/v1/extensions/${type}/${name}/versions`
  )
  steady.push(
    `| ${titles[source]} | ${round(hour.crawlCount)} | ${round(hour.requests)} | ${round(hour.probes)} | ${
      round(hour.requests + hour.probes)
    } | ${round(looking)} | ${round(versions)} |`
  )
  await app.close()
}

const { urls } = await send({ order: 'count' })
for (const source of sources) await measure(source, urls[source])
await upstreams.terminate()

const rows = crawls.map(({ source, kind, requests, seconds }) => {
  const least = fewest(source, kind)
  const again = kind === 'cold' ? 0 : share(source) * perRepository[source]
  const parallel = requests - sequential(source)
  const limit = allowance * (sequential(source) + parallel / atOnce[source]) * latency / 1000
  // The first requests are those of a start: a probe, the settings of the instance, and the extensions of a registry.
  if (requests - again > least + 4) missed.push(`${source}, ${kinds[kind]}: ${requests} requests, not ${least + again}`)
  if (seconds > limit) missed.push(`${source}, ${kinds[kind]}: ${round(seconds, 2)} s, not ${round(limit, 2)}`)
  return `| ${titles[source]} | ${kinds[kind]} | ${round(requests)} | ${round(least)} | ${round(again)} | ${
    round((requests - again) / least, 3)
  } | ${round(seconds, 2)} | ${round(limit, 2)} |`
})
const report = [
  `Measured by \`npm run bench:crawl\` on ${
    new Date().toISOString().slice(0, 10)
  }: ${cpus().length} cores, Node.js ${process.version}, loopback. An upstream takes ${latency} ms for each response.`,
  `A crawl sends at most ${atOnce.gitea} requests at once to Gitea and ${atOnce.oci} to a registry.`,
  `The time limit is ${allowance} x ${latency} ms x (pages of a registry's list + other requests / requests at once).`,
  '',
  '| Upstream | Crawl | Requests | Minimum | For reconciliation | Ratio without it | Seconds | Limit |',
  '|---|---|--:|--:|--:|--:|--:|--:|',
  ...rows,
  '',
  `Requests to the upstream by the default settings. A crawl runs every ${
    ttl * refreshAhead
  } seconds, and a probe every 15 seconds.`,
  `Every repository without a change is read once in ${reconcile} seconds. This takes one request for the releases ` +
    'of a Gitea extension.',
  'For a repository of a registry it takes two, for the tags and the digest. A Gitea repository without releases ' +
    'gets none.',
  `A registry that does not list changes is read by ${minReads} repositories in each crawl.`,
  '',
  '| Upstream | Crawls an hour | Requests of crawls | Of probes | Idle hour | Per 1,000 cached requests | Versions ' +
    'of 1,000 extensions |',
  '|---|--:|--:|--:|--:|--:|--:|',
  ...steady
].join('\n')
await writePart('crawl', report)
process.stdout.write(`${report}\n${missed.map(line => `missed: ${line}\n`).join('')}`)
if (missed.length > 0) process.exitCode = 1
