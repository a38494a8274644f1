import t, { type Test } from 'tap'
import { createQueue, createRetryBudget } from '../../../plugins/upstream/exchange.ts'
import { createUpstream } from '../../../plugins/upstream/client.ts'
import { createClock } from '../../fakes/clock.ts'
import { createLoopback, type LoopbackHandler } from '../../fakes/loopback.ts'
import { matchStrictly } from '../../fakes/match.ts'

await t.test('one in five requests is retried, after a reserve of ten', async t => {
  const budget = createRetryBudget()
  const taken = (requests: number) =>
    Array.from({ length: requests }, () => {
      budget.add()
      return budget.take()
    }).filter(Boolean).length
  t.equal(taken(1000), 10 + 199)
  t.equal(taken(50), 10)
})

await t.test('a full queue refuses requests with connection_limit_reached', async t => {
  const queue = createQueue({ instance: 'gitea', concurrency: 1, waiting: 2 })
  const { promise, resolve } = Promise.withResolvers<string>()
  const work = [0, 1, 2].map(async () => await queue(async () => await promise))
  await t.rejects(queue(async () => 'x'), {
    code: 'service_unavailable',
    retryAfter: 1,
    proxyError: 'connection_limit_reached'
  })
  resolve('done')
  t.strictSame(await Promise.all(work), ['done', 'done', 'done'])
  t.equal(await queue(async () => 'x'), 'x')
})

await t.test('an upstream', async t => {
  async function setUp (t: Test, handler: LoopbackHandler, more: object = {}) {
    const server = await createLoopback(handler)
    const clock = createClock()
    const upstream = createUpstream({ userAgent: 'test', random: () => 0, clock: clock.now }, {
      instance: 'gitea',
      url: server.url,
      timeout: 1,
      verifySsl: true,
      redirectHosts: [],
      concurrency: 4,
      ...more
    })
    t.teardown(async () => {
      upstream.close()
      await server.close()
    })
    return { server, clock, upstream, send: async (path: string) => await upstream.json(upstream.address([path])) }
  }

  await t.test('that fails gets few more requests than without retries', async t => {
    const { server, send } = await setUp(t, () => ({ status: 502, body: '' }))
    for (let times = 0; times < 40; times++) await t.rejects(send('x'))
    t.ok(server.requests.length > 40 && server.requests.length <= 40 + 10 + 8, `${server.requests.length} requests`)
  })

  await t.test('that sends Retry-After gets no requests from any client until then', async t => {
    const { server, clock, send } = await setUp(
      t,
      ({ path }) =>
        path === '/limited'
          ? { status: 429, headers: { 'retry-after': '120' }, body: '' }
          : { status: 200, headers: { 'content-type': 'application/json' }, body: '[]' }
    )
    await t.rejects(send('limited'), { code: 'rate_limit', retryAfter: 120 })
    await t.rejects(send('other'), { code: 'rate_limit', retryAfter: 120 })
    t.equal(server.requests.length, 1)
    clock.forward(121)
    matchStrictly(t, await send('other'), { kind: 'found' })
  })

  await t.test('gets no requests beyond the limit of its queue', async t => {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const { server, send } = await setUp(
      t,
      () => ({ status: 200, headers: { 'content-type': 'application/json' }, body: '[]' }),
      { concurrency: 1, waiting: 1 }
    )
    server.fault = async () => await promise
    const [first, second] = [send('x'), send('x')]
    await t.rejects(send('x'), { code: 'service_unavailable', proxyError: 'connection_limit_reached' })
    resolve(undefined)
    matchStrictly(t, await Promise.all([first, second]), [{ kind: 'found' }, { kind: 'found' }])
  })

  await t.test('during a pause: a download without a client, or one that fails to connect, fails only its own ' +
    'request', async t => {
    const { server, upstream, send } = await setUp(
      t,
      ({ path }) =>
        path === '/limited' ? { status: 429, headers: { 'retry-after': '1' }, body: '' } : { status: 200, body: 'file' }
    )
    const open = async (signal: AbortSignal) => await upstream.open(upstream.address(['file']), { signal, offset: 0 })
    await t.rejects(open(AbortSignal.abort()), 'the client disconnected while its request waited in the queue')
    t.equal(server.requests.length, 0)
    await t.rejects(send('limited'), { code: 'rate_limit' })
    await server.stop()
    await t.rejects(open(new AbortController().signal), {
      code: 'service_unavailable',
      proxyError: 'connection_refused'
    })
  })

  await t.test('that compresses without Accept-Encoding is refused, and nothing is decompressed', async t => {
    const { send } = await setUp(
      t,
      () => ({
        status: 200,
        headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
        body: Buffer.alloc(100)
      })
    )
    await t.rejects(send('x'), { code: 'service_unavailable', details: 'Response has an unrequested content coding' })
  })
})
