import { existsSync } from 'node:fs'
import swagger from '@fastify/swagger'
import Fastify from 'fastify'
import { chromium, type Browser } from 'playwright-core'
import t, { type Test } from 'tap'
import registry, { serverOptions } from '../../app.ts'
import { startPrefixProxy } from '../fakes/prefix-proxy.ts'
import { startServer } from './server.ts'

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(path =>
  existsSync(path)
)

/** Opens the page and requests the list with it; checks that all loaded addresses are below `base`. */
async function tryOut (t: Test, browser: Browser, base: string, path: string): Promise<void> {
  const page = await browser.newPage()
  page.setDefaultTimeout(15_000)
  const complaints: string[] = []
  const loaded: Array<[url: string, status: number]> = []
  page.on('console', message => {
    if (message.type() === 'error') complaints.push(message.text())
  })
  page.on('pageerror', error => {
    complaints.push(error.message)
  })
  page.on('response', response => {
    if (!response.url().startsWith('data:')) loaded.push([response.url(), response.status()])
  })

  await page.goto(`${base}${path}`)
  const operation = page.locator('#operations-extensions-listExtensions')
  await operation.locator('.opblock-summary').click()
  await operation.locator('button.execute').click()
  const live = operation.locator('.live-responses-table')
  await live.waitFor()
  t.equal((await live.locator('.response-col_status').last().innerText()).split(/\s/)[0], '200')
  t.match(await live.locator('.highlight-code').first().innerText(), /"name": "aws"/)
  t.strictSame(complaints, [], 'the page logs no errors')
  t.strictSame(loaded.filter(([url, status]) => !url.startsWith(`${base}/`) || ![200, 302].includes(status)), [])
  for (
    const suffix of [
      '/docs/static/swagger-ui.css',
      '/docs/static/swagger-ui-bundle.js',
      '/docs/json',
      '/api/v1/extensions'
    ]
  ) t.ok(loaded.some(([url]) => url.startsWith(`${base}${suffix}`)), suffix)
  const links = await page.locator('a[href]').evaluateAll(anchors =>
    anchors.map(anchor => (anchor as unknown as { href: string }).href)
  )
  t.ok(links.includes(`${base}/docs/json`), 'the page links to the document')
  for (
    const link of new Set(
      links.map(link => link.split('#', 1)[0] ?? '').filter(link => link.startsWith('http://127.0.0.1'))
    )
  ) {
    t.ok(link.startsWith(`${base}/`), link)
    t.equal((await fetch(link)).status, 200, link)
  }
  await page.close()
}

/** Starts the registry in a host with its own OpenAPI document; returns the address of the host. */
async function startHost (t: Test, prefix: string): Promise<string> {
  const host = Fastify({ ...serverOptions(), logger: false })
  t.teardown(async () => { await host.close() })
  await host.register(swagger)
  await host.register(registry, {
    prefix,
    config: { oci: { registry: 'examples/registry' }, store: { directory: t.testdir() } }
  })
  const address = await host.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => { host.server.closeAllConnections() })
  return address
}

await t.test('Swagger UI shows the document, and "Try it out" on the list returns 200, below any prefix', {
  // CI requires a browser, so the test fails there without one.
  skip: executablePath === undefined && process.env.CI === undefined ? 'NO CHROMIUM: Swagger UI is not tried' : false
}, async t => {
  const browser = await chromium.launch({
    ...(executablePath !== undefined && { executablePath }),
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync'
    ]
  })
  t.teardown(async () => { await browser.close() })
  const paths = ['/docs', '/docs/']

  await t.test('without a prefix', async t => {
    const address = await startServer(t)
    for (const path of paths) await t.test(path, async t => { await tryOut(t, browser, address, path) })
  })

  await t.test('behind a proxy that strips a prefix', async t => {
    const { address, strays } = await startPrefixProxy(t, await startServer(t), '/registry')
    for (const path of [...paths, '/docs?x=1', '/docs/?x=1', '/docs/static/index.html']) {
      await t.test(path, async t => {
        await tryOut(t, browser, address, path)
      })
    }
    t.strictSame(strays.filter(path => path !== '/favicon.ico'), [], 'nothing is requested outside the prefix')
  })

  await t.test('in a host, with a prefix', async t => {
    const address = await startHost(t, '/registry')
    for (const path of paths) await t.test(path, async t => { await tryOut(t, browser, `${address}/registry`, path) })
  })

  await t.test('in a host with a prefix, behind a proxy that strips another one', async t => {
    const { address, strays } = await startPrefixProxy(t, await startHost(t, '/inner/registry'), '/outer')
    for (const path of paths) {
      await t.test(path, async t => {
        await tryOut(t, browser, `${address}/inner/registry`, path)
      })
    }
    t.strictSame(strays.filter(path => path !== '/favicon.ico'), [])
  })

  await t.test('a script of a page of another origin reads every header of a response', async t => {
    const address = `${await startServer(t)}/api/v1/extensions?limit=1`
    const other = Fastify()
    t.teardown(async () => { await other.close() })
    other.get('/', async (_request, reply) => await reply.type('text/html').send('<title>other</title>'))
    const page = await browser.newPage()
    await page.goto(await other.listen({ host: '127.0.0.1', port: 0 }))
    const read = await page.evaluate(
      async address => [...(await fetch(address)).headers.keys()],
      address
    )
    const sent = [...(await fetch(address)).headers.keys()]
    t.strictSame(read.sort(), sent.sort())
    t.ok(read.includes('x-total-count') && read.includes('etag'))
    await page.close()
  })
})
