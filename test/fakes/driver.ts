import { Readable } from 'node:stream'
import type { Driver, Loaded, Release } from '../../backends/driver/driver.ts'
import { currentRelease, orderReleases } from '../../backends/driver/version.ts'
import type { RegistryError } from '../../lib/errors.ts'
import type { ExtensionSource, ExtensionType } from '../../schemas/extension.ts'

/**
 * Creates an upstream in memory: `content` has its versions, `fault` is its error, and `broken` has the unreadable
 * extensions.
 */
export function createFakeDriver (name: string, source: ExtensionSource, extensions: Record<string, string[]>) {
  const content = new Map(Object.entries(extensions))
  const calls = { list: 0, load: 0, open: 0, ping: 0 }
  const state: {
    fault: RegistryError | undefined,
    broken: Map<string, RegistryError>,
    calls: typeof calls,
    content: typeof content
  } = { fault: undefined, broken: new Map(), calls, content }

  function loaded (key: string): Loaded | undefined {
    const versions = content.get(key)
    if (versions === undefined || versions.length === 0) return undefined
    const [type, extension] = key.split('/') as [ExtensionType, string]
    const releases = orderReleases(versions.map((version): Release => ({
      version,
      published_at: '2025-01-01T00:00:00Z',
      file: {
        name: `${extension}.tar.gz`,
        size: 5,
        validator: `${name}-${key}-${version}`,
        locator: `${key}@${version}`,
        url: `https://${name}.example.com/${key}/${version}`
      }
    })))
    return { metadata: { type, name: extension, description: `${extension} of ${name}` }, releases }
  }
  const response = () => { if (state.fault !== undefined) throw state.fault }

  const driver: Driver = {
    name,
    source,
    async list () {
      calls.list++
      response()
      const crawl: Awaited<ReturnType<Driver['list']>> = { found: [], failed: [] }
      for (const key of content.keys()) {
        const error = state.broken.get(key)
        const one = loaded(key)
        const release = one === undefined ? undefined : currentRelease(one.releases)
        const [type, extension] = key.split('/') as [ExtensionType, string]
        if (error !== undefined) crawl.failed.push({ type, name: extension, error })
        else if (one !== undefined && release !== undefined) crawl.found.push({ metadata: one.metadata, release })
      }
      return crawl
    },
    async load (type, extension) {
      calls.load++
      response()
      const error = state.broken.get(`${type}/${extension}`)
      if (error !== undefined) throw error
      return loaded(`${type}/${extension}`)
    },
    async open (file) {
      calls.open++
      response()
      const [key = '', version = ''] = file.locator.split('@')
      return content.get(key)?.includes(version) === true
        ? { file, stream: Readable.from([Buffer.from('bytes')]), length: 5 }
        : undefined
    },
    async ping () {
      calls.ping++
      response()
    }
  }
  return Object.assign(state, { driver })
}
