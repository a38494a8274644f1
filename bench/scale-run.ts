// Measures one size of catalog in a separate process: `node --expose-gc scale-run.ts EXTENSIONS [versions]`. Prints
// JSON.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { createRandom } from '../test/soak/flapping.ts'
import { quantile } from '../test/soak/report.ts'
import { createScaleApp } from './scale-app.ts'
import { describe, words } from './words.ts'

/** Milliseconds of one kind of request. */
export interface Times { p50: number, p99: number, maximum: number }
export interface ScaleResult {
  extensions: number
  list: Times
  searchOne: Times
  searchAll: Times
  /** Number of extensions that searchAll found. */
  found: number
  /** Maximum event loop delay of each refresh, in milliseconds. */
  blocks: number[]
  /** Memory in bytes: before the catalog was read, with it, and with all versions if they were requested. */
  empty: number
  listed: number
  versions?: number
}

const limit = 100
const refreshes = 5
const requests = 2000
const path = '/api/v1/extensions'

/** Returns the resident memory in bytes after garbage collection. */
async function resident (): Promise<number> {
  for (let times = 0; times < 5; times++) {
    globalThis.gc?.()
    await sleep(50)
  }
  return process.memoryUsage.rss()
}

async function run (count: number, withVersions: boolean): Promise<ScaleResult> {
  const random = createRandom(7)
  const { app, forward, crawlCount } = await createScaleApp(count)
  const get = async (url: string) => {
    const response = await app.inject({ url })
    if (response.statusCode !== 200) throw new Error(`${url} returned ${response.statusCode}`)
    return response
  }
  const total = async (query: string) => Number((await get(`${path}${query}`)).headers['x-total-count'])
  const page = () => `${path}?limit=${limit}&offset=${Math.floor(random() * count)}`
  async function time (address: (round: number) => string, rounds = requests): Promise<Times> {
    const times: number[] = []
    for (let round = 0; round < rounds; round++) {
      const url = address(round)
      const began = performance.now()
      await get(url)
      times.push(performance.now() - began)
      await turn()
    }
    // The first requests include compilation, so they are skipped.
    const warm = times.slice(rounds / 10)
    return { p50: quantile(warm, 0.5), p99: quantile(warm, 0.99), maximum: Math.max(...warm) }
  }

  await get(`${path}/provider/${describe(0).name}`)
  const empty = await resident()
  if (await total('?limit=1') < count) throw new Error('The catalog is incomplete')
  const listed = await resident()
  const list = await time(page)
  const searchOne = await time(() => `${path}/search?q=${describe(Math.floor(random() * count)).name}`, requests / 4)
  // All descriptions start with the same words.
  const everywhere = ['Installs', 'nstalls', 'stalls', 'talls', 'alls', 'lls', ' for ', 'ins', 'insta', 'install']
  const searchAll = await time(
    round =>
      `${path}/search?q=${encodeURIComponent(everywhere[round % everywhere.length] ?? '')}&limit=${1 + round % 100}`,
    requests / 4
  )
  const found = await total(`/search?q=${everywhere[0]}`)

  const blocks: number[] = []
  for (let refresh = 0; refresh < refreshes; refresh++) {
    globalThis.gc?.()
    const before = crawlCount()
    // The listing is old enough for a refresh in the background, but has not expired.
    forward(250)
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    const extensions = await total('?limit=1')
    while (crawlCount() === before) {
      await get(page())
      await turn()
    }
    // The first request after a crawl merges the new catalog and prepares its search.
    while (await total('?limit=1') === extensions) await turn()
    await get(`${path}/search?q=${words[refresh]}`)
    await sleep(20)
    delay.disable()
    blocks.push(delay.max / 1e6)
  }
  const result: ScaleResult = { extensions: count, list, searchOne, searchAll, found, blocks, empty, listed }
  if (withVersions) {
    for (let number = 0; number < count; number++) {
      const { type, name } = describe(number)
      await get(`${path}/${type}/${name}/versions`)
    }
    result.versions = await resident()
  }
  await app.close()
  return result
}

const [count, mode] = process.argv.slice(2)
if (import.meta.main) console.log(JSON.stringify(await run(Number(count), mode === 'versions')))
