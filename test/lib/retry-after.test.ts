import t from 'tap'
import { createPause, retryAfterSeconds } from '../../lib/retry-after.ts'
import { statusError } from '../../plugins/upstream/errors.ts'
import { createClock } from '../fakes/clock.ts'

await t.test('Retry-After is parsed in seconds and as a date', async t => {
  const now = Date.parse('2026-01-01T00:00:00Z')
  t.equal(retryAfterSeconds('120', now), 120)
  t.equal(retryAfterSeconds('Thu, 01 Jan 2026 00:01:00 GMT', now), 60)
  t.equal(retryAfterSeconds('Wed, 31 Dec 2025 00:00:00 GMT', now), 0, 'in the past')
  t.equal(retryAfterSeconds('soon', now), undefined)
  t.equal(retryAfterSeconds(undefined, now), undefined)
})

await t.test('a pause ends after its time, or after ten minutes', async t => {
  const clock = createClock()
  const pause = createPause(clock.now)
  const limited = (seconds: number) => statusError('gitea', 429, { 'retry-after': String(seconds) })
  t.equal(pause.leftMs(), 0)
  await pause.over(limited)
  pause.begin(60)
  await t.rejects(pause.over(limited), { code: 'rate_limit', retryAfter: 60 })
  clock.forward(20)
  t.equal(pause.leftMs(), 40_000)
  pause.begin(1)
  t.equal(pause.leftMs(), 40_000, 'a shorter pause does not shorten the current pause')
  clock.forward(41)
  t.equal(pause.leftMs(), 0)
  await pause.over(limited)
  pause.begin(86_400)
  const unavailable = (seconds: number) => statusError('gitea', 503, { 'retry-after': String(seconds) })
  await t.rejects(pause.over(unavailable), { code: 'service_unavailable', retryAfter: 600 })
})

await t.test('a request waits for a short pause, even if the pause is extended in the meantime', async t => {
  const pause = createPause(() => performance.now())
  pause.begin(0.02)
  const began = performance.now()
  const over = pause.over(seconds => new Error(`${seconds} s left`))
  pause.begin(0.05)
  await over
  t.ok(performance.now() - began >= 48, 'until the end of the longer pause')
  pause.begin(0.02)
  const refused = pause.over(() => new Error('too long'))
  pause.begin(60)
  await t.rejects(refused, { message: 'too long' }, 'a pause that becomes long refuses the request')
})
