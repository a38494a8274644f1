import type { FastifyBaseLogger } from 'fastify'
import type { Secret } from '../../lib/secret.ts'
import type { Guard, Resolver } from './addresses.ts'
import type { ProxyEnvironment } from './proxies.ts'

/** Receives each request to an upstream: `status` is an HTTP status, or `error` without a response. */
export type UpstreamObserver = (instance: string, status: string, seconds: number) => void

export interface UpstreamDependencies {
  userAgent: string
  observe?: UpstreamObserver
  /** Numbers in [0, 1), for the jitter of retries. */
  random?: () => number
  /** Whose proxy variables count; the process's own if unset. */
  environment?: ProxyEnvironment
  /**
   * Which addresses may be connected to on hosts that the operator has not named; those of the open internet if unset.
   */
  guard?: Guard
  /** `dns.lookup` if unset. */
  resolver?: Resolver
  /** Returns milliseconds and is monotonic; for the pauses of a `Retry-After`. */
  clock?: () => number
  /** Receives the lines about redirects that are refused and about a `ca_file` that changes. */
  log?: Pick<FastifyBaseLogger, 'info' | 'warn' | 'error'>
}

export interface UpstreamOptions {
  instance: string
  /** Base address; paths are appended to it. */
  url: string
  /** The key of the configuration that has the address, for messages: `gitea.url`. */
  addressKey?: string
  /** Value of `Authorization`, sent to `url`'s own origin only; absent where each request has its own. */
  authorization?: Secret
  /** Seconds to wait for a connection, for the headers, and between two chunks. */
  timeout: number
  verifySsl: boolean
  caFile?: string
  /** Other hosts (`host` or `host:port`) that may be redirected to, without credentials. */
  redirectHosts: readonly string[]
  /** Hosts that the operator has named beside `url` and those: they may be on any network. */
  namedHosts?: readonly string[]
  /** Maximum number of requests in progress. */
  concurrency: number
  /** Maximum number of requests in the queue; 1000 if unset. */
  waiting?: number
}
