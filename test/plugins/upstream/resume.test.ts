import t from 'tap'
import { openFrom, isContinuation } from '../../../plugins/upstream/resume.ts'

const response = (status: number, headers: Record<string, string> = {}) => ({
  status,
  headers,
  url: new URL('http://127.0.0.1/')
})
const part = (headers: Record<string, string> = {}) =>
  response(206, { 'content-range': 'bytes 10-99/100', etag: '"one"', ...headers })
const at = { offset: 10, size: 100, etag: '"one"' }

await t.test('a partial response continues a file if its range and its validator match', async t => {
  t.ok(isContinuation(part(), at))
  t.ok(isContinuation(part(), { offset: 10, etag: '"one"' }), 'with an unknown size')
  const { etag, ...nameless } = part().headers
  t.ok(
    isContinuation(response(206, nameless), { ...at, constant: true }),
    'without a validator if the address identifies the content'
  )
  t.notOk(isContinuation(response(206, nameless), at), 'without a validator at any other address')
  t.notOk(isContinuation(part(), { offset: 10, size: 100 }), 'without an earlier validator')
  const wrong: Array<Record<string, string>> = [
    { etag: '"two"' },
    { 'content-range': 'bytes 11-99/100' },
    { 'content-range': 'bytes 10-98/100' },
    { 'content-range': 'bytes 10-199/200' },
    { 'content-range': 'bytes 10-99/*' },
    { 'content-range': '' }
  ]
  for (const headers of wrong) {
    t.notOk(isContinuation(part(headers), { ...at, constant: true }), JSON.stringify(headers))
  }
  t.notOk(
    isContinuation(part({ etag: 'W/"one"' }), { ...at, etag: 'W/"one"' }),
    'a weak validator does not identify bytes'
  )
  t.notOk(isContinuation({ ...part(), status: 200 }, at))
})

await t.test('a wrong part, 400, 416 or 500 leads to a request for the whole file; another status is the ' +
  'result', async t => {
  const send = async (first: number, headers?: Record<string, string>) => {
    const requested: number[] = []
    const { status, offset } = await openFrom(at, async offset => {
      requested.push(offset)
      return offset > 0 ? { ...part(headers), status: first } : response(200)
    })
    return { requested, status, offset }
  }
  t.strictSame(await send(206), { requested: [10], status: 206, offset: 10 })
  t.strictSame(await send(206, { etag: '"two"' }), { requested: [10, 0], status: 200, offset: 0 })
  t.strictSame(await send(200), { requested: [10], status: 200, offset: 0 })
  for (const status of [400, 416, 500]) {
    t.strictSame(await send(status), { requested: [10, 0], status: 200, offset: 0 }, String(status))
  }
  for (const status of [401, 403, 404, 429, 503]) {
    t.strictSame(await send(status), { requested: [10], status, offset: 0 }, String(status))
  }
  const requested: number[] = []
  await openFrom({ offset: 0 }, async offset => { requested.push(offset); return response(200) })
  t.strictSame(requested, [0])
})
