import Fastify from 'fastify'
import fp from 'fastify-plugin'
import t from 'tap'
import registry, { serverOptions } from '../../../app.ts'
import { createGiteaFake, provisioningContent } from '../../fakes/gitea.ts'

await t.test('a credential is in no log line, response or metric, for any failure of the upstream', async t => {
  const canary = 'canary-0a1b2c3d'
  const lines: string[] = []
  const gitea = await createGiteaFake(provisioningContent(), { tokens: { [canary]: { scopes: ['all'] } } })
  t.teardown(gitea.close)
  const options = serverOptions({
    server: { host: '127.0.0.1', port: 0, trust_proxy: false, request_budget_seconds: 10, shutdown_delay_seconds: 0 },
    log: { level: 'trace' }
  })
  const app = Fastify({
    ...options,
    logger: {
      level: 'trace',
      stream: {
        write: line => {
          lines.push(line)
        }
      }
    }
  })
  t.teardown(async () => {
    await app.close()
  })
  await app.register(fp(registry), {
    config: {
      store: { enabled: false },
      gitea: { url: gitea.url, organization: 'provisioning', token: canary, timeout_seconds: 1 }
    }
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => { app.server.closeAllConnections() })
  const seen: string[] = []
  const get = async (path: string) => {
    const response = await fetch(url + path)
    seen.push(JSON.stringify([...response.headers]), await response.text().catch(String))
  }
  const paths = [
    '/api/v1/extensions',
    '/api/v1/extensions/taskserv/kubernetes/versions',
    '/api/v1/extensions/taskserv/kubernetes/1.28.0',
    '/api/v1/extensions/provider/nowhere',
    '/health',
    '/metrics'
  ]
  for (const path of paths) await get(path)
  for (
    const fault of ['refuse-reset', 'truncate', 'stall', { status: 401, body: '' }, { status: 500, body: '' }, {
      status: 302,
      headers: { location: 'http://elsewhere.example/' },
      body: ''
    }] as const
  ) {
    gitea.fault = ({ path }) => path.startsWith('/attachments') || path.includes('nowhere') ? fault : undefined
    for (const path of paths) await get(path)
  }
  t.ok(gitea.requests.some(({ headers }) => headers.authorization === `token ${canary}`), 'the credential was used')
  t.ok(lines.length > 40, 'there are log lines')
  t.strictSame(lines.filter(line => line.includes(canary)), [])
  t.strictSame(seen.filter(text => text.includes(canary)), [])
})
