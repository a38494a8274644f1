import { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import type { FaultServer } from '../fakes/fault-server.ts'
import type { FaultAction, LoopbackAnswer, LoopbackRequest } from '../fakes/loopback.ts'
import { names, setWallClock } from './environment.ts'

/** What a fault must know of the kind of upstream that it is in front of. */
export interface Grounds {
  /** Name of the host that the instance is configured with. */
  hostname: string
  /** The calls that list repositories. */
  listing: RegExp
  /** All calls whose answers come in pages. */
  lists: RegExp
  /** The calls that tell the versions of the extension which is asked for. */
  repository: RegExp
  /** A JSON document of the form that the lists have, with this list in it. */
  wrap: (items: string) => string
  /** The true answer to a list, with bad items among the good ones. */
  spoil: (answer: LoopbackAnswer & { body: Buffer }) => LoopbackAnswer
  /** The path of a first page, of few items. */
  firstPage: (path: string) => string
  /** The true answer to the n-th page of a listing, as if what was read before had been deleted meanwhile. */
  shrunk: (answer: LoopbackAnswer & { body: Buffer }) => LoopbackAnswer
  /** A page behind which there is always another. */
  endless: (path: string, answer: LoopbackAnswer & { body: Buffer }) => LoopbackAnswer
  /** A server that nothing may lead to. */
  elsewhere: string
}

export interface Fault {
  /** What goes wrong, for the document. */
  title: string
  begin: (server: FaultServer, grounds: Grounds) => void | Promise<void>
  /** Nothing else may run meanwhile, for it concerns the whole process, or keeps it busy. */
  alone?: true
}

const json = { 'content-type': 'application/json' }
const page = '<!doctype html><title>Maintenance</title><p>We will be back soon.'

const always = (action: FaultAction): Fault['begin'] => server => {
  server.fault = () => action
}
const each = (answer: () => LoopbackAnswer): Fault['begin'] => server => {
  server.fault = () => answer()
}
const status = (code: number, headers: Record<string, string> = {}): Fault['begin'] =>
  always({ status: code, headers: { ...json, ...headers }, body: '{"message":"something is wrong"}' })

/** Another answer than the true one, for some requests. */
const where =
  (
    which: (grounds: Grounds) => RegExp,
    act: (
      grounds: Grounds,
      server: FaultServer
    ) => (request: LoopbackRequest) => LoopbackAnswer | Promise<LoopbackAnswer>
  ): Fault['begin'] =>
    (server, grounds) => {
      const [matching, answer] = [which(grounds), act(grounds, server)]
      server.fault = request => matching.test(request.path) ? answer(request) : undefined
    }

const megabyte = Buffer.alloc(1024 * 1024, 'x')
const bomb = gzipSync(Buffer.alloc(100 * 1024 * 1024, ' '))
const depth = 100_000

function * hugeJson (): Generator<Buffer> {
  yield Buffer.from('["')
  for (let sent = 0; sent < 100; sent++) yield megabyte
  yield Buffer.from('"]')
}

/** A body that comes in pieces, none of them late, and is not there in time. */
async function * drip (body: Buffer): AsyncGenerator<Buffer> {
  const size = Math.max(1, Math.ceil(body.length / 20))
  for (let start = 0; start < body.length; start += size) {
    yield body.subarray(start, start + size)
    await wait(40)
  }
}

/** Every fault by its name: what the upstream does from the moment that it begins. */
export const faults = {
  refused: { title: 'connection refused', begin: async server => { await server.stop() } },
  nameless: {
    title: 'DNS failure',
    begin: async (server, { hostname }) => {
      names.lose(hostname)
      // A connection that is kept needs no name.
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
        const { body, ...answer } = await server.truth(request)
        return { ...answer, body: Readable.from(drip(body)) }
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
        const answer = await server.truth(request)
        return { ...answer, headers: { ...answer.headers, 'content-type': 'text/plain; charset=utf-8' } }
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
