import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'
import t from 'tap'
import { startServer } from './server.ts'

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(path => existsSync(path))

await t.test('Swagger UI shows the document, and "Try it out" on the list answers 200', {
  // Where there must be a browser, its lack is a failure.
  skip: executablePath === undefined && process.env.CI === undefined ? 'NO CHROMIUM: Swagger UI is not tried' : false
}, async t => {
  const address = await startServer(t)
  const browser = await chromium.launch({
    ...(executablePath !== undefined && { executablePath }),
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
  })
  t.teardown(async () => { await browser.close() })
  const page = await browser.newPage()
  const complaints: string[] = []
  page.on('console', message => { if (message.type() === 'error') complaints.push(message.text()) })
  page.on('pageerror', error => { complaints.push(error.message) })

  await page.goto(`${address}/docs`)
  const operation = page.locator('#operations-extensions-listExtensions')
  await operation.locator('.opblock-summary').click()
  await operation.locator('button.execute').click()
  const live = operation.locator('.live-responses-table')
  await live.waitFor()
  t.equal((await live.locator('.response-col_status').last().innerText()).split(/\s/)[0], '200')
  t.match(await live.locator('.highlight-code').first().innerText(), /"name": "aws"/)
  t.strictSame(complaints, [], 'the page breaks none of its own rules')
})
