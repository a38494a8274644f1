import fc from 'fast-check'
import { deepEqual, equal, notEqual, ok } from 'node:assert/strict'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import t, { type Test } from 'tap'
import registry, { serverOptions } from '../../../app.ts'
import type { Extension, ExtensionVersion } from '../../../schemas/extension.ts'
import { createClock } from '../../fakes/clock.ts'
import { createGiteaFake, provisioningContent } from '../../fakes/gitea.ts'
import { writeLayout } from '../../fakes/layout.ts'
import type { Loopback, LoopbackResponse, LoopbackRequest } from '../../fakes/loopback.ts'
import { contentOf, createRegistryFake } from '../../fakes/registry.ts'
import { provenAbsent } from '../../properties/gitea-proof.ts'
import { mutate, mutations, type Mutation } from '../../properties/mutations.ts'
import { holds, share, until } from '../../properties/run.ts'

/** Number of mutated responses in a full run; fewer without `PROPERTIES=full`. */
const expected = share(5000)
/** Number of registries that are fuzzed at the same time: some of them wait while others work. */
const lanes = 6

/**
 * Extensions of the trusted instance. The other instance has a twin of each, with a version that no mutation generates.
 */
const owned = { aws_prov: 'provider/aws', k3s_taskserv: 'taskserv/k3s', web_cluster: 'cluster/web' }
const repositories = Object.keys(owned)
const names = Object.values(owned)
const twin = '987.654.321'
/** Number of repositories on one page of the listing of the trusted instance. */
const pageItems = 2
const onPage = (repository: string): number => Math.floor(repositories.indexOf(repository) / pageItems) + 1

const content = provisioningContent()
content.repositories = content.repositories.filter(({ name }) => repositories.includes(name))

async function upstreams (t: Test) {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(
    root,
    [...names, 'provider/other'].map(repository => ({
      repository,
      tag: twin,
      annotations: { 'org.opencontainers.image.description': 'twin' }
    }))
  )
  const blobs = await contentOf(root)
  return async () =>
    [await createGiteaFake(content, { maxResponseItems: pageItems }), await createRegistryFake(blobs)] as const
}

/** Returns a function that returns the true response of an upstream to a request, and caches it. */
function createTruth (upstream: Loopback) {
  const known = new Map<string, Promise<LoopbackResponse>>()
  async function send ({ method, path, headers: { accept = '*/*' } }: LoopbackRequest): Promise<LoopbackResponse> {
    const response = await fetch(upstream.url + path, {
      method,
      redirect: 'manual',
      headers: { accept, 'accept-encoding': 'identity' }
    })
    const { connection, 'keep-alive': _, 'transfer-encoding': __, 'content-length': ___, date, ...headers } = Object
      .fromEntries(response.headers)
    return { status: response.status, headers, body: Buffer.from(await response.arrayBuffer()) }
  }
  return async (request: LoopbackRequest): Promise<LoopbackResponse> => {
    const key = `${request.method} ${request.path} ${request.headers.accept ?? ''}`
    const reply = known.get(key) ?? send(request)
    known.set(key, reply)
    return await reply
  }
}
type Truth = ReturnType<typeof createTruth>

/** Mutations of the responses of one instance, in their order. */
type Plan = Array<Mutation | undefined>
interface Round { gitea: Plan, oci: Plan, order: number }

let mutated = 0
let rounds = 0
let excused = 0
const statuses = new Map<number, number>()

async function createWorld ([gitea, oci]: readonly [Loopback, Loopback], truths: readonly [Truth, Truth]) {
  const clock = createClock()
  const plans: [Plan, Plan] = [[], []]
  /** Extensions with a proven absence in this round and in the round before, since a load may outlive its round. */
  let absent = new Set<string>()
  let before = new Set<string>()
  /** Mutations of this round, for the failure report. */
  let done: string[] = []
  for (const at of [0, 1] as const) {
    const upstream = [gitea, oci][at]
    if (upstream === undefined) continue
    upstream.fault = async request => {
      const mutation = plans[at].shift()
      if (mutation === undefined) return undefined
      mutated++
      done.push(`${request.method} ${request.path} ${JSON.stringify(mutation).slice(0, 300)}`)
      const response = mutate(await truths[at](request), mutation)
      if (at === 0) {
        for (const name of provenAbsent(request.path, response, repositories, onPage)) {
          absent.add(owned[name as keyof typeof owned])
        }
      }
      return response
    }
  }
  const app = Fastify({ ...serverOptions(), logger: { level: 'warn', stream: { write: () => {} } } })
  await app.register(fp(registry), {
    clock: clock.now,
    config: {
      server: { request_budget_seconds: 1, public_url: 'http://localhost' },
      gitea: { url: gitea.url, organization: 'provisioning', timeout_seconds: 0.3 },
      oci: { registry: oci.url, timeout_seconds: 0.3 }
    }
  })
  await app.ready()

  async function get (path: string) {
    const reply = await app.inject({ url: `/api/v1/extensions${path}` }).catch(() => undefined)
    // The download failed after its headers.
    if (reply === undefined) return undefined
    statuses.set(reply.statusCode, (statuses.get(reply.statusCode) ?? 0) + 1)
    ok([200, 302, 401, 404, 429, 503].includes(reply.statusCode), `${path}: ${reply.statusCode} ${reply.body}`)
    return reply
  }

  const isOwned = ({ type, name }: Extension) =>
    !absent.has(`${type}/${name}`) && !before.has(`${type}/${name}`) && names.includes(`${type}/${name}`)

  /** Requests to every route; a response for a name that the trusted instance owns must be of the trusted instance. */
  const operations: Array<() => Promise<void>> = [
    ...['', '/search?q=a', '?type=provider'].map(path => async () => {
      const result = await get(path)
      if (result?.statusCode === 200) {
        deepEqual(
          result.json<Extension[]>().filter(isOwned).filter(({ source }) => source !== 'gitea'),
          [],
          `${path}: owner`
        )
      }
    }),
    ...names.flatMap(name => {
      const [type = '', short = ''] = name.split('/')
      const held = () => isOwned({ type, name: short } as Extension)
      return [
        async () => {
          const received = await get(`/${name}`)
          if (received?.statusCode === 200 && held()) {
            equal(received.json<Extension>().source, 'gitea', `owner of ${name}`)
          }
        },
        async () => {
          const received = await get(`/${name}/versions`)
          if (received?.statusCode === 200 && held()) {
            ok(!received.json<ExtensionVersion[]>().some(({ version }) => version === twin), `versions of ${name}`)
          }
        },
        async () => {
          const received = await get(`/${name}/${twin}`)
          if (held()) notEqual(received?.statusCode, 200, `the twin's file of ${name}`)
        },
        async () => {
          const received = await get(`/${name}/latest`)
          if (held()) notEqual(received?.headers.location, twin, `latest of ${name}`)
        }
      ]
    }),
    async () => { await get('/provider/aws/1.2.0') },
    async () => { await get('/provider/other') },
    async () => { await get('/taskserv/nothing') }
  ]

  return {
    app,
    async round ({ gitea, oci, order }: Round): Promise<void> {
      rounds++
      plans[0] = [...gitea]
      plans[1] = [...oci]
      clock.forward(301)
      // The order changes, so that each request meets cold, fresh and stale entries.
      const turned = [...operations.slice(order % operations.length), ...operations.slice(0, order % operations.length)]
      done = []
      try {
        for (const operation of turned) await operation()
      } catch (error) {
        throw new Error(`${error instanceof Error ? error.message : String(error)}, after\n${done.join('\n')}`, {
          cause: error
        })
      }
      if (absent.size > 0) excused++
    },
    /** Waits until the listing of the trusted instance is complete again. */
    async recover (): Promise<void> {
      plans[0] = []
      plans[1] = []
      before = absent
      absent = new Set()
      let last: unknown
      for (let attempt = 0; attempt < 60; attempt++) {
        clock.forward(301)
        const received = await get('')
        const listed = received?.statusCode === 200 ? received.json<Extension[]>() : []
        last = [received?.statusCode, received?.headers, listed.map(({ name, source }) => `${source} ${name}`)]
        if (
          received?.headers['proxy-status'] === undefined &&
          listed.filter(({ source }) => source === 'gitea').length === names.length
        ) return
        await delay(50)
      }
      throw new Error(`The catalog does not recover: ${JSON.stringify(last)}`)
    }
  }
}

const plan = (least: number) =>
  fc.array(fc.option(mutations, { nil: undefined, freq: 10 }), { minLength: least, maxLength: 3 * least, size: 'max' })
const round: fc.Arbitrary<Round> = fc.record({ gitea: plan(12), oci: plan(10), order: fc.nat(20) })
const lane = fc.array(round, { minLength: 4, maxLength: 8, size: 'max' })

await t.test('no mutation of an upstream response crashes the registry or changes an owner', async t => {
  const create = await upstreams(t)
  const origin = await create()
  for (const upstream of origin) t.teardown(upstream.close)
  const truths = [createTruth(origin[0]), createTruth(origin[1])] as const

  await holds(
    t,
    fc.asyncProperty(
      fc.array(lane, { minLength: lanes, maxLength: lanes, size: 'max' }),
      until(() => mutated >= expected, async lanes => {
        const ended = await Promise.allSettled(lanes.map(async rounds => {
          const fakes = await create()
          const world = await createWorld(fakes, truths)
          try {
            await world.recover()
            for (const round of rounds) {
              await world.round(round)
              await world.recover()
            }
          } finally {
            await world.app.close()
            await Promise.all(fakes.map(async fake => {
              await fake.close()
            }))
          }
        }))
        const failed = ended.find(end => end.status === 'rejected')
        if (failed !== undefined) {
          throw new Error(failed.reason instanceof Error ? failed.reason.message : String(failed.reason), {
            cause: failed.reason
          })
        }
      })
    ),
    { runs: share(40) }
  )

  t.comment(
    `${mutated} mutations in ${rounds} rounds, ${excused} of which proved an absence; statuses: ${
      [...statuses].sort(([a], [b]) => a - b).map(([status, count]) => `${status} ${count}`).join(', ')
    }`
  )
  t.ok(mutated >= expected, `at least ${expected} mutations`)
})
