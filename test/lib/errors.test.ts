import Fastify from 'fastify'
import t from 'tap'
import { envelope, errorTable, registryError, toRegistryError, type ErrorType } from '../../lib/errors.ts'
import errors from '../../plugins/errors.ts'
import { statusError } from '../../plugins/upstream/errors.ts'
import { failureOf } from '../../plugins/upstream/exchange.ts'
import { matchStrictly } from '../fakes/match.ts'

await t.test('the envelope of every error type has its status and its name', async t => {
  for (const [type, { status }] of Object.entries(errorTable)) {
    const { status: completed, body } = envelope(registryError(type as ErrorType, 'why', { details: 'more' }))
    t.strictSame([completed, body], [status, { error: type, message: 'why', details: 'more' }])
  }
})

await t.test('only a temporary error has Retry-After', async t => {
  t.equal(envelope(registryError('service_unavailable', 'x')).headers['retry-after'], '5')
  t.equal(envelope(registryError('service_unavailable', 'x', { retryAfter: 0.2 })).headers['retry-after'], '1')
  t.equal(envelope(registryError('rate_limit', 'x', { retryAfter: 59.5 })).headers['retry-after'], '60')
  t.equal(envelope(registryError('not_found', 'x')).headers['retry-after'], undefined)
})

await t.test('an unexpected error is reported as internal_error, without its message', async t => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(errors)
  app.get('/bug', async () => { throw new Error('password=hunter2 at 10.0.0.1') })
  const response = await app.inject({ url: '/bug' })
  matchStrictly(t, [response.statusCode, response.headers['cache-control']], [500, 'no-store'])
  t.strictSame(response.json(), { error: 'internal_error', message: 'Internal server error' })
})

await t.test('errors of Fastify are mapped to the error table', async t => {
  matchStrictly(t, toRegistryError(Object.assign(new Error('too large'), { statusCode: 413 })), {
    code: 'invalid_request',
    statusCode: 400
  })
  matchStrictly(t, toRegistryError(Object.assign(new Error('gone'), { statusCode: 404 })), {
    code: 'not_found',
    statusCode: 404
  })
  matchStrictly(t, toRegistryError('thrown text'), { code: 'internal_error', statusCode: 500 })
})

await t.test('an upstream status is mapped to the error table', async t => {
  const cases: Array<[number, ErrorType]> = [
    [401, 'auth_error'],
    [403, 'auth_error'],
    [429, 'rate_limit'],
    [500, 'service_unavailable'],
    [503, 'service_unavailable'],
    [418, 'service_unavailable']
  ]
  for (const [status, code] of cases) {
    matchStrictly(t, statusError('gitea', status), { code, instance: 'gitea' }, String(status))
  }
  matchStrictly(t, statusError('gitea', 503, { 'retry-after': '7' }), { retryAfter: 7 })
  matchStrictly(t, failureOf('gitea', new Error('socket 10.0.0.1:3000')), {
    code: 'service_unavailable',
    message: 'Instance gitea is unavailable',
    details: 'Request failed'
  })
})
