import { createCipheriv, createHash } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import type { Test } from 'tap'
import { startApp } from './app.ts'
import { createRegistryFake, type RegistryContent } from './registry.ts'

/** Returns a file of `length` bytes without repeated blocks. */
export function fileOf (length: number, seed = 'file'): Buffer {
  const key = createHash('sha256').update(seed).digest()
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

export const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

/** Behaviour of an object storage. */
export interface StorageBehaviour {
  /** Whether it supports `Range`. */
  ranges: boolean
  etag: string | undefined
  /** Positions in bytes of the file at which a connection is closed, each once. */
  cuts: number[]
  /** Position in bytes and a promise; later bytes are sent after the promise settles. */
  hold: [number, Promise<void>] | undefined
  /** Whether a kept connection accepts another request; else it is reset by that request. */
  reuse: boolean
}

const piece = 64 * 1024

/**
 * Starts an object storage with one file, which counts its sent bytes. `content` and the behaviour may change while it
 * runs.
 */
export async function createStorage (t: Test, content: Buffer, given: Partial<StorageBehaviour> = {}) {
  const state = {
    content,
    ranges: true,
    etag: '"one"',
    cuts: [],
    hold: undefined,
    reuse: true,
    sent: 0,
    requests: [] as Array<string | undefined>,
    ...given
  } as StorageBehaviour & { content: Buffer, sent: number, requests: Array<string | undefined> }
  const used = new WeakSet<Socket>()
  const server = createServer((request, response) => {
    const reply = async () => {
      if (!state.reuse && used.has(request.socket)) {
        request.socket.resetAndDestroy()
        return
      }
      used.add(request.socket)
      const { content, etag, ranges } = state
      state.requests.push(request.headers.range)
      const start = ranges ? Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0
      response.writeHead(start > 0 ? 206 : 200, {
        'content-length': content.length - start,
        ...(etag !== undefined && { etag }),
        ...(start > 0 && { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` })
      })
      for (let at = start; at < content.length;) {
        const [held, open] = state.hold ?? []
        if (held !== undefined && at >= held) await open
        const cut = state.cuts.find(offset => offset >= at)
        const end = Math.min(
          content.length,
          at + piece,
          cut ?? Infinity,
          held !== undefined && at < held ? held : Infinity
        )
        await new Promise<void>(resolve => {
          response.write(content.subarray(at, end), () => {
            resolve()
          })
        })
        if (response.destroyed) return
        state.sent += end - at
        at = end
        if (at !== cut) continue
        state.cuts.splice(state.cuts.indexOf(cut), 1)
        response.destroy()
        return
      }
      response.end()
    }
    reply().catch(() => { response.destroy() })
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return Object.assign(state, { host, url: `http://${host}` })
}
export type Storage = Awaited<ReturnType<typeof createStorage>>

const manifestType = 'application/vnd.oci.image.manifest.v1+json'

/** Returns the content of a registry with these files, each the only layer of version 1.0.0 of its repository. */
export function contentOfFiles (files: Record<string, Buffer>): RegistryContent {
  return new Map(
    Object.entries(files).map(([repository, file]) => {
      const manifest = Buffer.from(JSON.stringify({
        schemaVersion: 2,
        mediaType: manifestType,
        artifactType: 'application/vnd.example',
        config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(Buffer.from('{}')), size: 2 },
        layers: [{
          mediaType: 'application/gzip',
          digest: digestOf(file),
          size: file.length,
          annotations: { 'org.opencontainers.image.title': `${repository.split('/').at(-1)}.tar.gz` }
        }]
      }))
      const digest = digestOf(manifest)
      return [repository, {
        tags: new Map([['1.0.0', { digest, mediaType: manifestType }]]),
        blobs: new Map([[digest, manifest], [digestOf(file), file]])
      }]
    })
  )
}

/**
 * Starts the registry on a real port, with an OCI registry that has one file, `taskserv/big` 1.0.0, in an object
 * storage.
 */
export async function listenBeforeStorage (
  t: Test,
  file: Buffer,
  { config = {}, ...behaviour }: Partial<StorageBehaviour> & { config?: object } = {}
) {
  const storage = await createStorage(t, file, behaviour)
  const fake = await createRegistryFake(contentOfFiles({ 'taskserv/big': file }), { storage: storage.url })
  t.teardown(fake.close)
  const oci = { registry: fake.url, redirect_hosts: [storage.host], timeout_seconds: 2 }
  const { app, get } = await startApp(t, { oci, ...config })
  const origin = await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => { app.server.closeAllConnections() })
  const url = `${origin}/api/v1/extensions/taskserv/big/1.0.0`
  const metric = async (line: string) =>
    Number(new RegExp(`^${line.replace(/[{}]/g, '\\$&')} (\\S+)$`, 'm').exec((await get('/metrics')).body)?.[1])
  /** Settles when no download is active, and all files are stored. */
  const idle = async () => { while (app.downloads.active() > 0) await turn() }
  return { app, get, fake, storage, oci, url, metric, idle, statistics: () => app.downloads.statistics() }
}

/** Returns the bytes of a response. */
export const bytesOf = async (response: Response): Promise<Buffer> => Buffer.from(await response.arrayBuffer())
