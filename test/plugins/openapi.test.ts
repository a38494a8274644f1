import { Writable } from 'node:stream'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import fp from 'fastify-plugin'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import registry from '../../app.ts'
import { relativeServer } from '../../plugins/openapi.ts'
import { whole } from '../fakes/app.ts'
import { matchStrictly } from '../fakes/match.ts'
import { startPrefixProxy } from '../fakes/prefix-proxy.ts'

interface Served { info: { title: string }, servers: Array<{ url: string }>, paths: Record<string, unknown> }

const documents = ['/openapi.json', '/openapi.yaml', '/docs/json', '/docs/yaml']
// A busy machine delays the event loop.
const config = { oci: { registry: 'examples/registry' }, server: { max_event_loop_delay_seconds: 0 } }

function startHost (t: Test, options: FastifyServerOptions = {}): FastifyInstance {
  const host = Fastify(options)
  t.teardown(async () => { await host.close() })
  return host
}

const listen = async (host: FastifyInstance) => await host.listen({ host: '127.0.0.1', port: 0 })

/**
 * Checks the page and the documents at an address as a client reads them; `prefix` precedes the paths of the document.
 */
async function checkPage (t: Test, base: string, prefix = ''): Promise<void> {
  for (const path of ['/docs', '/docs/', '/docs?x=1', '/docs/?x=1', '/docs/static/index.html', '/docs/static/']) {
    const page = await fetch(base + path)
    t.equal(page.status, 200, path)
    t.match(page.url, /\/docs\/?$/, `${path} is redirected to the page`)
    const links = [...(await page.text()).matchAll(/(?:href|src)="([^"]+)"/g)].map(([, link = '']) =>
      new URL(link, page.url).href
    )
    t.ok(links.length > 4, path)
    for (const link of links) {
      t.ok(link.startsWith(`${base}/docs/static/`), link)
      t.equal((await fetch(link, { method: 'HEAD' })).status, 200, link)
    }
  }
  for (const path of documents) {
    const response = await fetch(base + path)
    const text = await response.text()
    const { info, servers, paths } = (path.endsWith('json') ? JSON.parse(text) : parse(text)) as Served
    t.equal(info.title, 'Extension registry', path)
    const operation = `${prefix}/api/v1/extensions`
    t.ok(Object.hasOwn(paths, operation), path)
    const server = new URL(servers[0]?.url ?? '', base + path).href.replace(/\/$/, '')
    t.equal(`${server}${operation}`, `${base}/api/v1/extensions`, `${path}: server URL`)
    t.equal((await fetch(`${server}${operation}`)).status, 200, path)
  }
}

await t.test('the server of a served document is relative to its address', async t => {
  for (
    const [prefix, address, expected] of [
      ['', '/openapi.json', '.'],
      ['', '/docs/json', '..'],
      ['/registry', '/openapi.json', '..'],
      ['/registry', '/docs/json', '../..'],
      ['/a/b/', '/docs/json', '../../..'],
      ['/:tenant', '/openapi.yaml', '..']
    ] as const
  ) t.equal(relativeServer(prefix, address), expected, `${prefix}${address}`)
})

await t.test('the page, its assets and the documents work below any prefix', async t => {
  await t.test('without a prefix', async t => {
    const host = startHost(t)
    await host.register(registry, { config })
    await checkPage(t, await listen(host))
  })

  for (const prefix of ['/registry', '/inner/registry', '/registry/']) {
    await t.test(`in a host, with the prefix ${prefix}`, async t => {
      const host = startHost(t)
      await host.register(registry, { prefix, config })
      const path = prefix.replace(/\/$/, '')
      const address = await listen(host)
      await checkPage(t, address + path, path)
      const proxy = await startPrefixProxy(t, address, '/outer')
      await checkPage(t, proxy.address + path, path)
      t.strictSame(proxy.strays, [])
    })
  }

  await t.test('behind a proxy that strips a prefix', async t => {
    const host = startHost(t)
    await host.register(registry, { config })
    const { address, strays } = await startPrefixProxy(t, await listen(host), '/registry')
    await checkPage(t, address)
    t.strictSame(strays, [])
  })
})

await t.test('the registry serves its own document and page next to the document and page of the host', async t => {
  for (const encapsulated of [true, false]) {
    await t.test(encapsulated ? 'with encapsulation' : 'without encapsulation', async t => {
      const host = startHost(t)
      await host.register(swagger, { openapi: { info: { title: 'The host', version: '1' } } })
      await host.register(swaggerUi, { theme: { title: 'The page of the host' } })
      const prefix = encapsulated ? '/registry' : ''
      if (encapsulated) await host.register(registry, { prefix, config })
      else await host.register(whole, { config })
      const address = await listen(host)
      await checkPage(t, address + prefix, prefix)
      t.match((await host.inject('/documentation/')).body, 'The page of the host')
      matchStrictly(t, host.swagger(), { info: { title: 'The host' } })
      matchStrictly(t, (await host.inject('/documentation/json')).json(), { info: { title: 'The host' } })
    })
  }

  await t.test('registered after the registry', async t => {
    const host = startHost(t)
    await host.register(whole, { config })
    await host.register(swagger, { openapi: { info: { title: 'The host', version: '1' } } })
    await host.register(swaggerUi)
    await host.ready()
    matchStrictly(t, (await host.inject('/documentation/json')).json(), { info: { title: 'The host' } })
    matchStrictly(t, (await host.inject('/docs/json')).json(), { info: { title: 'Extension registry' } })
  })
})

await t.test('a page of the host at the same address remains, and the log reports that the registry has ' +
  'none', async t => {
  const pages: Array<(host: FastifyInstance) => Promise<void>> = [
    async host => {
      await host.register(swagger)
      await host.register(swaggerUi, { routePrefix: '/docs', theme: { title: 'The page of the host' } })
    },
    async host => { host.get('/docs', async () => 'The page of the host') },
    async host => { host.get('/docs/static/*', async () => 'The page of the host') }
  ]
  for (const [at, addPage] of pages.entries()) {
    const lines: string[] = []
    const host = startHost(t, {
      logger: {
        level: 'warn',
        stream: new Writable({
          write (line, _encoding, done) {
            lines.push(String(line))
            done()
          }
        })
      }
    })
    await addPage(host)
    await host.register(at === 0 ? fp(async scope => { await registry(scope, { config }) }) : registry, { config })
    await host.ready()
    t.match((await host.inject(at === 2 ? '/docs/static/x' : '/docs')).body, 'The page of the host')
    matchStrictly(t, lines.filter(line => line.includes('Swagger UI')), [
      /route \/docs\S* of the host exists: Swagger UI is not served/
    ])
    t.equal((await host.inject('/openapi.json')).statusCode, 200, 'the document is served')
  }
})
