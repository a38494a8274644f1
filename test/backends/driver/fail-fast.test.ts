import t from 'tap'
import { createFailFast, isUpstreamResponse } from '../../../backends/driver/fail-fast.ts'
import { registryError } from '../../../lib/errors.ts'

const silent = registryError('service_unavailable', 'silent', { proxyError: 'http_response_timeout' })
const broken = registryError('service_unavailable', 'broken', { proxyError: 'destination_unavailable' })
const fails = (error: Error) => async () => { throw error }

await t.test('a crawl sends no further request after three consecutive requests without a response', async t => {
  const fused = createFailFast()
  for (let times = 0; times < 3; times++) await t.rejects(fused(fails(silent)), silent)
  let requested = false
  await t.rejects(fused(async () => { requested = true }), silent)
  t.equal(requested, false)
})

await t.test('a response in between, successful or not, lets the crawl continue', async t => {
  const fused = createFailFast()
  for (let times = 0; times < 5; times++) {
    await t.rejects(fused(fails(silent)), silent)
    await t.rejects(fused(fails(silent)), silent)
    await t.rejects(fused(fails(broken)), broken)
  }
  t.equal(await fused(async () => 'result'), 'result')
})

await t.test('a failed response is distinguished from a missing response and from a rate limit', async t => {
  t.equal(isUpstreamResponse(broken), true)
  t.equal(isUpstreamResponse(silent), false)
  t.equal(isUpstreamResponse(registryError('rate_limit', 'limited', { proxyError: 'destination_unavailable' })), false)
  t.equal(
    isUpstreamResponse(
      registryError('service_unavailable', 'later', { proxyError: 'destination_unavailable', retryAfter: 5 })
    ),
    false
  )
})
