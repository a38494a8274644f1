import t from 'tap'
import { matchStrictly } from './fakes/match.ts'
import { run, start } from './fakes/process.ts'

// The other tests of the process are in test/system/process.
await t.test('the server starts, responds and stops', async t => {
  const { get, kill, end } = await start(t)
  t.equal((await get('/livez')).status, 200)
  const unknown = await get('/nothing')
  t.equal(unknown.status, 404)
  t.strictSame(await unknown.json(), { error: 'not_found', message: 'Route GET /nothing not found' })
  kill('SIGTERM')
  matchStrictly(t, await end, { code: 0, stderr: '' })
})

await t.test('a bad configuration prevents the start', async t => {
  t.strictSame(await run(t, { env: { REGISTRY_SERVER_PORT: 'http' } }).end, {
    code: 78,
    stdout: [],
    stderr: 'server.port: expected an integer from 0 to 65535 (in REGISTRY_SERVER_PORT)\n'
  })
})
