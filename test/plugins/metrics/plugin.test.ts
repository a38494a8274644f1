import client from '@prometheus-io/client'
import fc from 'fast-check'
import t from 'tap'
import { createRequestMetrics } from '../../../plugins/metrics/requests.ts'
import { durationBuckets } from '../../../plugins/metrics/registry.ts'
import { startApp } from '../../fakes/app.ts'
import { matchStrictly } from '../../fakes/match.ts'

/** Returns the series of a metric: values by the text of their labels. */
function seriesOf (text: string, name: string): Record<string, number> {
  return Object.fromEntries(
    [...text.matchAll(new RegExp(`^${name}\\{([^}]*)\\} (\\S+)$`, 'gm'))].map((
      [, labels = '', value]
    ) => [labels, Number(value)])
  )
}

await t.test('every response is counted and timed by its method, route and status', async t => {
  const register = new client.Registry()
  const observe = createRequestMetrics(register).route('GET', '/a/:b', true)
  observe(200, 4)
  observe(200, 30)
  observe(404, 7000)
  const text = await register.metrics()
  t.strictSame(seriesOf(text, 'http_requests_total'), {
    'method="GET",route="/a/:b",status="200"': 2,
    'method="GET",route="/a/:b",status="404"': 1
  })
  const buckets = seriesOf(text, 'http_request_duration_seconds_bucket')
  matchStrictly(t, buckets, {
    'le="0.005",method="GET",route="/a/:b",status="200"': 1,
    'le="0.025",method="GET",route="/a/:b",status="200"': 1,
    'le="0.05",method="GET",route="/a/:b",status="200"': 2,
    'le="5",method="GET",route="/a/:b",status="404"': 0,
    'le="10",method="GET",route="/a/:b",status="404"': 1
  })
  t.strictSame(seriesOf(text, 'http_request_duration_seconds_sum'), {
    'method="GET",route="/a/:b",status="200"': 0.034,
    'method="GET",route="/a/:b",status="404"': 7
  })
  t.strictSame(
    seriesOf(await register.metrics(), 'http_requests_total'),
    seriesOf(text, 'http_requests_total'),
    'reading the metrics counts nothing'
  )
})

await t.test('durations are the same as in a histogram of the library, in the same text', async t => {
  const milliseconds = fc.oneof(
    fc.double({ min: 0, max: 20_000, noNaN: true }),
    fc.constantFrom(...durationBuckets.map(seconds => seconds * 1000))
  )
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.constantFrom('/a', '/b"'), fc.constantFrom(200, 304, 500), milliseconds), { maxLength: 40 }),
      async observations => {
        const [ours, theirs] = [new client.Registry(), new client.Registry()]
        const requests = createRequestMetrics(ours)
        const routes = new Map(['/a', '/b"'].map(route => [route, requests.route('GET', route, true)]))
        const { name, help } = await ours.getSingleMetric('http_request_duration_seconds')?.get() ??
          { name: '', help: '' }
        const histogram = new client.Histogram({
          name,
          help,
          labelNames: ['method', 'route', 'status'],
          buckets: durationBuckets,
          registers: [theirs]
        })
        for (const route of routes.keys()) histogram.zero({ method: 'GET', route, status: '200' })
        for (const [route, status, time] of observations) {
          routes.get(route)?.(status, time)
          histogram.observe({ method: 'GET', route, status: String(status) }, time / 1000)
        }
        ours.removeSingleMetric('http_requests_total')
        t.equal(await ours.metrics(), await theirs.metrics())
      }
    )
  )
})

await t.test('HEAD and OPTIONS requests and requests for metrics are counted but not timed', async t => {
  const { app, get } = await startApp(t, { oci: { registry: './examples/registry' } })
  await get('/livez')
  await get('/metrics')
  await app.inject({ method: 'HEAD', url: '/livez' })
  await app.inject({
    method: 'OPTIONS',
    url: '/livez',
    headers: { origin: 'https://a.example', 'access-control-request-method': 'GET' }
  })
  await get('/nowhere')
  await app.inject({ method: 'HEAD', url: '/nowhere' })
  await app.inject({ method: 'DELETE', url: '/livez' })
  const { body } = await get('/metrics')
  const [counted, timed] = [
    seriesOf(body, 'http_requests_total'),
    seriesOf(body, 'http_request_duration_seconds_count')
  ]
  matchStrictly(t, counted, {
    'method="GET",route="/livez",status="200"': 1,
    'method="GET",route="/metrics",status="200"': 1,
    'method="HEAD",route="/livez",status="200"': 1,
    'method="OPTIONS",route="/livez",status="204"': 1,
    'method="GET",route="unknown",status="404"': 1,
    'method="HEAD",route="unknown",status="404"': 1,
    'method="DELETE",route="unknown",status="405"': 1,
    'method="GET",route="/api/v1/extensions",status="200"': 0
  })
  matchStrictly(t, timed, {
    'method="GET",route="/livez",status="200"': 1,
    'method="GET",route="__unknown__",status="404"': 1,
    'method="DELETE",route="__unknown__",status="405"': 1,
    'method="GET",route="/api/v1/extensions",status="200"': 0
  })
  t.strictSame(Object.keys(timed).filter(labels => /HEAD|OPTIONS|metrics/.test(labels)), [])
})
