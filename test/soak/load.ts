import { createHash } from 'node:crypto'
import { Agent, request, type IncomingHttpHeaders } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Extension, ExtensionVersion } from '../../schemas/extension.ts'
import type { Expected } from './content.ts'
import type { Tally } from './report.ts'

export interface Reply {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
}
interface LoadOptions {
  url: string
  expected: readonly Expected[]
  random: () => number
  fail: (reason: string) => void
}

/** Maximum milliseconds for a response; more than the request budget and a slow file together. */
const hung = 20_000

/** Sends one request over a kept connection; returns undefined when the response is truncated. */
async function send (agent: Agent, address: string, { method = 'GET', headers = {} } = {}): Promise<Reply | undefined> {
  return await new Promise((resolve, reject) => {
    const sent = request(address, { agent, method, headers, signal: AbortSignal.timeout(hung) }, response => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk)
      })
      response.once('error', error => {
        if (error.name === 'AbortError') reject(error)
        else resolve(undefined)
      })
      response.once('end', () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) })
      })
    })
    sent.once('error', reject)
    sent.end()
  })
}

/**
 * Creates clients that request all routes, compare each response with the expected content, and remember the earlier
 * responses.
 */
export function createLoad ({ url, expected, random, fail }: LoadOptions) {
  const agent = new Agent({ keepAlive: true, maxSockets: 24 })
  const tallies = new Map<string, Tally>()
  /** Keys with a successful response; later requests for them must succeed as well. */
  const completed = new Set<string>()
  const etags = new Map<string, string>()
  const byName = new Map(expected.map(each => [`${each.type}/${each.name}`, each]))
  const one = (): Expected => expected[Math.floor(random() * expected.length)] as Expected

  async function measured (
    route: string,
    path: string,
    options?: Parameters<typeof send>[2]
  ): Promise<Reply | undefined> {
    const tally = tallies.get(route) ?? { statuses: new Map<string, number>(), times: [], stale: 0, responded: 0 }
    tallies.set(route, tally)
    const started = performance.now()
    const reply = await send(agent, `${url}${path}`, options).catch((error: unknown) => {
      fail(`${path}: ${String(error)}`)
      return undefined
    })
    tally.times.push(performance.now() - started)
    const status = reply?.status ?? 0
    const kind = reply === undefined
      ? 'broken off'
      : [404, 429, 503].includes(status)
          ? String(status)
          : `${Math.floor(status / 100)}xx`
    tally.statuses.set(kind, (tally.statuses.get(kind) ?? 0) + 1)
    if (status === 200 || status === 304) tally.responded++
    if ((status === 200 || status === 304) && reply?.headers['cache-control'] === 'no-cache') tally.stale++
    if (status === 500 || ![0, 200, 302, 304, 404, 429, 503].includes(status)) {
      fail(`${path}: ${status} ${reply?.body.toString() ?? ''}`)
    }
    return reply
  }

  /**
   * Requests existing content. A success is remembered by `key`; after a success of `key` or of one in `known` an error
   * is a failure.
   */
  async function exists<T> (
    route: string,
    path: string,
    { key = path, known = [] as string[], options = {} as Parameters<typeof send>[2] } = {}
  ): Promise<{ body: T, headers: IncomingHttpHeaders } | undefined> {
    const before = [key, ...known].some(each => completed.has(each))
    const reply = await measured(route, path, options)
    if (reply === undefined) fail(`${path}: the response was truncated`)
    else if (reply.status === 404) fail(`${path}: 404 for an existing extension`)
    else if (reply.status >= 400) {
      if (before) fail(`${path}: ${reply.status} after an earlier success: ${reply.body.toString()}`)
    } else completed.add(key)
    if (reply?.status === 200 && typeof reply.headers.etag === 'string') etags.set(path, reply.headers.etag)
    if (reply?.status !== 200 || options?.method === 'HEAD') return undefined
    return { body: JSON.parse(reply.body.toString()) as T, headers: reply.headers }
  }

  function compare (path: string, extension: Extension, required: Expected | undefined): void {
    const [highest] = required?.versions ?? []
    if (
      required === undefined || extension.source !== required.source ||
      extension.description !== required.description ||
      extension.version !== highest?.version
    ) {
      fail(`${path}: ${JSON.stringify(extension)} is not ${JSON.stringify(required)}`)
    }
  }

  function comparePage (path: string, page: { body: Extension[], headers: IncomingHttpHeaders } | undefined): void {
    if (page === undefined) return
    // A missing instance may own a name that another one has too, and the list reports this in x-partial.
    const whole = page.headers['x-partial'] === undefined
    if (!whole) return
    for (const extension of page.body) compare(path, extension, byName.get(`${extension.type}/${extension.name}`))
    if (Number(page.headers['x-total-count']) > expected.length) {
      fail(`${path}: ${page.headers['x-total-count']} extensions`)
    }
  }

  const base = '/api/v1/extensions'
  const kinds: Array<{ share: number, run: () => Promise<void> }> = [
    {
      share: 2,
      run: async () => {
        const path = `${base}?limit=100&offset=${Math.floor(random() * 10) * 100}`
        comparePage(path, await exists('list', path, { key: 'list' }))
      }
    },
    {
      share: 2,
      run: async () => {
        const path = `${base}/search?q=n${String(Math.floor(random() * 100)).padStart(2, '0')}&limit=20`
        comparePage(path, await exists('search', path, { key: 'list' }))
      }
    },
    {
      share: 8,
      run: async () => {
        const requested = one()
        const path = `${base}/${requested.type}/${requested.name}`
        const found = await exists<Extension>('metadata', path, { known: ['whole list'] })
        if (found !== undefined) compare(path, found.body, requested)
      }
    },
    {
      share: 4,
      run: async () => {
        const expected = one()
        const path = `${base}/${expected.type}/${expected.name}/versions`
        const found = await exists<ExtensionVersion[]>('versions', path)
        const [described, must] = [
          found?.body.map(({ version }) => version).join(),
          expected.versions.map(({ version }) => version).join()
        ]
        if (described !== undefined && described !== must) fail(`${path}: ${described} is not ${must}`)
      }
    },
    {
      share: 4,
      run: async () => {
        const { type, name, versions } = one()
        const { version, sha256 } = versions[Math.floor(random() * versions.length)] as Expected['versions'][number]
        const path = `${base}/${type}/${name}/${version}`
        const reply = await measured('download', path)
        if (reply?.status === 404) fail(`${path}: 404 for an existing version`)
        if (reply?.status === 200 && createHash('sha256').update(reply.body).digest('hex') !== sha256) {
          fail(`${path}: a complete download with wrong bytes`)
        }
      }
    },
    {
      share: 2,
      run: async () => {
        const { type, name, versions: [first] } = one()
        const path = `${base}/${type}/${name}/${first?.version ?? ''}`
        // A HEAD needs the same data as the versions.
        await exists('download (HEAD)', path, { key: `${base}/${type}/${name}/versions`, options: { method: 'HEAD' } })
      }
    },
    {
      share: 4,
      run: async () => {
        const paths = [...etags.keys()].filter(path => !path.includes('search'))
        const path = paths[Math.floor(random() * paths.length)]
        if (path !== undefined) {
          await exists('conditional', path, { options: { headers: { 'if-none-match': etags.get(path) ?? '' } } })
        }
      }
    },
    {
      share: 1,
      run: async () => {
        const path = `${base}/provider/x${Math.floor(random() * 1e6)}`
        const reply = await measured('unknown name', path)
        if (reply?.status === 200) fail(`${path}: 200 for a missing extension`)
      }
    },
    {
      share: 1,
      run: async () => {
        for (const path of ['/health', '/livez', '/api/v1/cache/stats']) {
          const reply = await measured('health and statistics', path)
          if (reply?.status !== 200) fail(`${path}: ${reply?.status}`)
        }
      }
    }
  ]
  const urn = kinds.flatMap(({ share, run }) => Array.from({ length: share }, () => run))

  return {
    tallies,
    /** Sends one request of a random kind. */
    async step (): Promise<void> { await urn[Math.floor(random() * urn.length)]?.() },

    /**
     * Runs concurrent clients until a time of `performance.now`; `rate` is their maximum number of requests per second
     * together.
     */
    async run ({ clients, rate, until }: { clients: number, rate: number, until: number }): Promise<void> {
      const between = 1000 * clients / rate
      await Promise.all(Array.from({ length: clients }, async () => {
        await sleep(random() * between)
        while (performance.now() < until) {
          const next = performance.now() + between
          await this.step()
          await sleep(Math.max(0, next - performance.now()))
        }
      }))
    },

    /**
     * Returns whether the list is complete and fresh, and compares every extension; after that no extension may be
     * refused.
     */
    async whole (): Promise<boolean> {
      const reply = await send(agent, `${url}${base}?limit=1000`)
      if (reply?.status !== 200 || reply.headers['cache-control'] === 'no-cache') return false
      const extensions = JSON.parse(reply.body.toString()) as Extension[]
      for (const extension of extensions) {
        compare('the whole list', extension, byName.get(`${extension.type}/${extension.name}`))
      }
      if (extensions.length === expected.length) completed.add('whole list').add('list')
      return extensions.length === expected.length
    },

    /** Returns a function that returns the sum of a metric over its labels. */
    async metrics (): Promise<(name: string) => number> {
      const text = (await send(agent, `${url}/metrics`))?.body.toString() ?? ''
      return name =>
        [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].reduce(
          (sum, [, value]) => sum + Number(value),
          0
        )
    },
    health: async (): Promise<string> =>
      (JSON.parse((await send(agent, `${url}/health`))?.body.toString() ?? '{}') as { status: string }).status,
    close (): void {
      agent.destroy()
    }
  }
}
