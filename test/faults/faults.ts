import { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import type { FaultServer } from '../fakes/fault-server.ts'
import type { FaultAction, LoopbackResponse, LoopbackRequest } from '../fakes/loopback.ts'
import { names, setWallClock } from './environment.ts'

/** Properties of an upstream kind that the faults need. */
export interface Grounds {
  /** Host name of the configured instance. */
  hostname: string
  /** Paths that list repositories. */
  listing: RegExp
  /** Paths of all paginated responses. */
  lists: RegExp
  /** Paths that return the versions of the requested extension. */
  repository: RegExp
  /** Returns a JSON document in the form of the lists, with these items. */
  wrap: (items: string) => string
  /** Returns the true response of a list with invalid items among the valid ones. */
  spoil: (response: LoopbackResponse & { body: Buffer }) => LoopbackResponse
  /** Returns the path of a first page with few items. */
  firstPage: (path: string) => string
  /** Returns the true response for a later page as if the items of earlier pages had been deleted. */
  shrunk: (reply: LoopbackResponse & { body: Buffer }) => LoopbackResponse
  /** Returns a page that is always followed by another page. */
  endless: (path: string, result: LoopbackResponse & { body: Buffer }) => LoopbackResponse
  /** Address of a server that must not receive any request. */
  elsewhere: string
}

export interface Fault {
  /** Title of the fault in the document. */
  title: string
  begin: (server: FaultServer, grounds: Grounds) => void | Promise<void>
  /** Set if the fault affects or blocks the whole process, so that its registries are observed one after another. */
  alone?: true
}

const json = { 'content-type': 'application/json' }
const page = '<!doctype html><title>Maintenance</title><p>We will be back soon.'

const always = (action: FaultAction): Fault['begin'] => server => {
  server.fault = () => action
}
const each = (response: () => LoopbackResponse): Fault['begin'] => server => {
  server.fault = () => response()
}
const status = (code: number, headers: Record<string, string> = {}): Fault['begin'] =>
  always({ status: code, headers: { ...json, ...headers }, body: '{"message":"something is wrong"}' })

/** Replaces the true response for some requests. */
const where =
  (
    which: (grounds: Grounds) => RegExp,
    act: (
      grounds: Grounds,
      server: FaultServer
    ) => (request: LoopbackRequest) => LoopbackResponse | Promise<LoopbackResponse>
  ): Fault['begin'] =>
    (server, grounds) => {
      const [matching, response] = [which(grounds), act(grounds, server)]
      server.fault = request => matching.test(request.path) ? response(request) : undefined
    }

const megabyte = Buffer.alloc(1024 * 1024, 'x')
const bomb = gzipSync(Buffer.alloc(100 * 1024 * 1024, ' '))
const depth = 100_000

function * hugeJson (): Generator<Buffer> {
  yield Buffer.from('["')
  for (let sent = 0; sent < 100; sent++) yield megabyte
  yield Buffer.from('"]')
}

/** Yields a body in pieces; each piece is in time, but the body is not. */
async function * drip (body: Buffer): AsyncGenerator<Buffer> {
  const size = Math.max(1, Math.ceil(body.length / 20))
  for (let start = 0; start < body.length; start += size) {
    yield body.subarray(start, start + size)
    await wait(120)
  }
}

/** Faults by name, each with the behaviour of the upstream from its beginning. */
export const faults = {
  refused: { title: 'connection refused', begin: async server => { await server.stop() } },
  nameless: {
    title: 'DNS failure',
    begin: async (server, { hostname }) => {
      names.lose(hostname)
      // A kept connection needs no name, so it is closed.
      await server.stop()
      await server.start()
    }
  },
  deaf: { title: 'connection neither accepted nor refused', begin: async server => { await server.deafen() } },
  silent: { title: 'accepts, then never responds', begin: always('hang') },
  stalled: { title: 'headers and a beginning, then silence', begin: always('stall') },
  drip: {
    title: 'slow drip',
    begin: server => {
      server.fault = async request => {
        const { body, ...response } = await server.truth(request)
        return { ...response, body: Readable.from(drip(body)) }
      }
    }
  },
  reset: { title: 'reset mid-body', begin: always('reset') },
  truncated: { title: 'truncated body', begin: always('truncate') },
  limitedSeconds: { title: '429, `Retry-After` in seconds', begin: status(429, { 'retry-after': '5' }) },
  limitedDate: {
    title: '429, `Retry-After` as a date',
    begin: each(() => ({
      status: 429,
      headers: { ...json, 'retry-after': new Date(Date.now() + 5000).toUTCString() },
      body: '{}'
    }))
  },
  error500: { title: '500', begin: status(500) },
  error502: { title: '502', begin: always({ status: 502, headers: { 'content-type': 'text/html' }, body: page }) },
  error503: { title: '503', begin: status(503) },
  unauthorized: { title: '401', begin: status(401) },
  forbidden: { title: '403', begin: status(403) },
  listing404: {
    title: '404 on the listing itself',
    begin: where(
      ({ listing }) => listing,
      () => () => ({ status: 404, headers: json, body: '{"errors":[{"code":"NOT_FOUND","message":"not found"}]}' })
    )
  },
  repository: {
    title: "one repository's call fails among good ones",
    begin: where(({ repository }) => repository, () => () => ({ status: 500, headers: json, body: '{}' }))
  },
  html: {
    title: 'HTML with 200',
    begin: always({ status: 200, headers: { 'content-type': 'text/html; charset=utf-8' }, body: page })
  },
  contentType: {
    title: 'wrong content type',
    begin: server => {
      server.fault = async request => {
        const reply = await server.truth(request)
        return { ...reply, headers: { ...reply.headers, 'content-type': 'text/plain; charset=utf-8' } }
      }
    }
  },
  invalidJson: { title: 'invalid JSON', begin: always({ status: 200, headers: json, body: '[{"name": "vault' }) },
  wrongShape: {
    title: 'valid JSON of the wrong shape',
    begin: always({ status: 200, headers: json, body: '{"message":"moved to another endpoint"}' })
  },
  badItems: {
    title: 'nothing but bad items',
    begin: where(({ lists }) => lists, ({ wrap }) => () => ({ status: 200, headers: json, body: wrap('{"id":1}') }))
  },
  badItem: {
    title: 'bad items among good ones',
    begin: where(({ lists }) => lists, ({ spoil }, server) => async request => spoil(await server.truth(request)))
  },
  huge: {
    title: '100 MB of JSON',
    begin: each(() => ({ status: 200, headers: json, body: Readable.from(hugeJson()) })),
    alone: true
  },
  nested: {
    title: 'deeply nested JSON',
    begin: (server, { wrap }) => {
      server.fault = () => ({ status: 200, headers: json, body: wrap('['.repeat(depth) + ']'.repeat(depth)) })
    },
    alone: true
  },
  bomb: {
    title: 'gzip bomb',
    begin: always({ status: 200, headers: { ...json, 'content-encoding': 'gzip' }, body: bomb })
  },
  redirectLoop: {
    title: 'redirect loop',
    begin: server => {
      server.fault = ({ path }) => ({ status: 302, headers: { location: path } })
    }
  },
  redirectElsewhere: {
    title: 'redirect to another host',
    begin: (server, { elsewhere }) => {
      server.fault = ({ path }) => ({ status: 302, headers: { location: elsewhere + path } })
    }
  },
  redirectLinkLocal: {
    title: 'redirect to a link-local address',
    begin: always({ status: 302, headers: { location: 'http://169.254.169.254/latest/meta-data/' } })
  },
  endless: {
    title: 'endless pagination',
    begin: where(
      ({ lists }) => lists,
      ({ firstPage, endless }, server) => async request =>
        endless(request.path, await server.truth(request, firstPage(request.path)))
    ),
    alone: true
  },
  repeated: {
    title: 'the same page again and again',
    begin: where(
      ({ listing }) => listing,
      ({ firstPage }, server) => async request => await server.truth(request, firstPage(request.path))
    )
  },
  shrinking: {
    title: 'a page that shrinks while the list is read',
    begin: (server, { listing, firstPage, shrunk }) => {
      const isLater = (path: string) => /[?&]last=|[?&]page=(?!1\b)/.test(path)
      server.fault = async request => {
        if (!listing.test(request.path)) return undefined
        return isLater(request.path)
          ? shrunk(await server.truth(request))
          : await server.truth(request, firstPage(request.path))
      }
    }
  },
  clockAhead: { title: 'the wall clock jumps an hour ahead', begin: () => { setWallClock(3600) }, alone: true },
  clockBack: { title: 'the wall clock jumps an hour back', begin: () => { setWallClock(-3600) }, alone: true }
} satisfies Record<string, Fault>

export type FaultName = keyof typeof faults
export const faultNames = Object.keys(faults) as FaultName[]
