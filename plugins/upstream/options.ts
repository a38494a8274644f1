import type { FastifyBaseLogger } from 'fastify'
import type { Secret } from '../../lib/secret.ts'
import type { Guard, Resolver } from './addresses.ts'
import type { UpstreamObserver } from './exchange.ts'
import type { ProxyEnvironment } from './proxies.ts'

export interface UpstreamDependencies {
  userAgent: string
  observe?: UpstreamObserver
  /** Returns numbers in [0, 1) for the jitter of retries. */
  random?: () => number
  /** Environment with the proxy variables; that of the process if unset. */
  environment?: ProxyEnvironment
  /** Returns whether an address is allowed for hosts that are not configured; only public addresses if unset. */
  guard?: Guard
  /** Resolver of host names; `dns.lookup` if unset. */
  resolver?: Resolver
  /** Returns the milliseconds of a monotonic clock, for the pauses of a `Retry-After`. */
  clock?: () => number
  /** Logger for refused redirects and for changes of `ca_file`. */
  log?: Pick<FastifyBaseLogger, 'info' | 'warn' | 'error'>
}

export interface UpstreamOptions {
  instance: string
  /** Base address; paths are appended to it. */
  url: string
  /** Key of the configuration with the address, for messages: `gitea.url`. */
  addressKey?: string
  /** Value of `Authorization`, sent only to the origin of `url`; absent when each request has its own. */
  authorization?: Secret
  /** Maximum seconds for a connection, for the headers, and between two chunks. */
  timeout: number
  verifySsl: boolean
  caFile?: string
  /** Other hosts (`host` or `host:port`) that redirects may lead to, without credentials. */
  redirectHosts: readonly string[]
  /** Other configured hosts, beside `url` and `redirectHosts`, which may be on any network. */
  namedHosts?: readonly string[]
  /** Maximum number of requests in progress. */
  concurrency: number
  /** Maximum number of requests in the queue; 1000 if unset. */
  waiting?: number
}
