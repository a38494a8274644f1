import type { Static, TArray } from '@sinclair/typebox'
import { Address, File, Integer, Seconds, Type, type InputOf, type TableOf } from './input.ts'
import { StringEnum } from './string-enum.ts'
import { GiteaConfig, OciConfig } from './upstreams.ts'

/** Expected value of `server.host`, in words. */
export const listenAddress = 'an address such as 0.0.0.0, :: or 127.0.0.1, or a host name, without a port'
/** Expected value of an item of `server.trusted_proxies`, in words. */
export const proxyAddress = 'an address or a network such as 10.0.0.0/8'
/** Expected value of an item of `server.cors_origins`, in words. */
export const corsOrigin = '"*" or an origin as browsers send it, such as https://portal.example.com'

export const ServerConfig = Type.Object({
  host: Type.String({
    description:
      'Address to listen on: `0.0.0.0` for IPv4, `::` for IPv6 and IPv4 (only IPv4 on a machine without IPv6)',
    default: '0.0.0.0',
    expected: listenAddress
  }),
  port: Integer('Port to listen on; 0 selects a free port', 8082, 0, 65535),
  public_url: Type.Optional(Address(
    'Public base address of this registry; needed for `download_urls = "gateway"`', 'https://registry.example.com'
  )),
  trust_proxy: Type.Boolean({
    description:
      'Trust the `X-Forwarded-For` header of a reverse proxy, for the log and the rate limit; its addresses may have ' +
        'ports',
    default: false
  }),
  trusted_proxies: Type.Array(Type.String({ pattern: '^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$', expected: proxyAddress }), {
    description:
      'Addresses and networks of the trusted proxies, with `trust_proxy`; an empty list trusts every peer',
    default: []
  }),
  cors_origins: Type.Array(Type.String({ pattern: '^(\\*|https?://[^\\s/\\\\@?#,*]+)$', expected: corsOrigin }), {
    description:
      'Origins whose pages may read responses in a browser, without credentials; `*` for all, empty to turn CORS off',
    default: ['*']
  }),
  max_event_loop_delay_seconds: Seconds(
    'Maximum mean delay of the event loop; above it, requests to the catalog fail with 503. 0 turns the limit off',
    1,
    0,
    3600
  ),
  max_downloads: Integer('Maximum number of concurrent downloads; further ones fail with 503', 256, 1, 100_000),
  request_budget_seconds: Seconds(
    'Maximum time that a request waits for all upstreams together; for a download, until it begins',
    10,
    0.01,
    3600
  ),
  shutdown_delay_seconds: Integer(
    'Time between SIGTERM and the end of listening, in which load balancers can remove the process',
    5,
    0,
    300
  )
}, { additionalProperties: false, default: {}, description: 'The HTTP server' })

export const LogConfig = Type.Object({
  level: StringEnum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    description: 'Minimum level of logged lines', default: 'info'
  })
}, { additionalProperties: false, default: {}, description: 'Logs: JSON lines on standard output' })

export const RateLimitConfig = Type.Object({
  max: Integer(
    'Maximum number of requests to the catalog in a window for each client; 0 for no limit. A client is an IPv4 ' +
      'address or an IPv6 network of 64 bits',
    0,
    0,
    1_000_000_000
  ),
  window_seconds: Integer('Length of the window', 60, 1, 86_400)
}, { additionalProperties: false, default: {}, description: 'Rate limit for each client' })

export const CacheConfig = Type.Object({
  capacity: Integer('Maximum number of entries; the least recently used are removed first', 1000, 16, 10_000_000),
  ttl_seconds: Integer('Time for which an entry is fresh', 300, 1, 86_400),
  stale_if_error_seconds: Integer(
    'Additional time for which an expired entry is served as stale data while its upstream fails',
    86_400,
    0,
    31_536_000
  ),
  negative_ttl_seconds: Integer(
    'Time for which a confirmed absence is cached, and the maximum age of data that a 404 is based on',
    30,
    0,
    86_400
  ),
  directory: Type.Optional(
    File(
      'Directory for snapshots of the last complete catalog, which are served after a restart during an outage. They ' +
        'contain the names of private repositories',
      '/var/lib/extension-registry'
    )
  )
}, { additionalProperties: false, default: {}, description: 'Cached data of the upstreams, and its lifetime' })

export const StoreConfig = Type.Object({
  enabled: Type.Boolean({
    description:
      'Store downloaded files on disk. Without the store, each download is fetched and verified during the transfer',
    default: true
  }),
  directory: Type.Optional(
    File(
      'Directory of the store, which several processes may share. If unset, one for each set of upstreams below ' +
        '`$XDG_CACHE_HOME` or `~/.cache`',
      '/var/cache/extension-registry'
    )
  ),
  max_bytes: Integer(
    'Maximum size of all stored files; the least recently used are removed first. A larger file is sent without ' +
      'being stored',
    2 * 1024 ** 3,
    0,
    2 ** 50
  ),
  finish_bytes: Integer(
    'Maximum size of a file whose transfer is completed for later downloads after all its clients have left',
    64 * 1024 ** 2,
    0,
    2 ** 50
  ),
  on_rerelease: StringEnum(['serve', 'refuse'], {
    description:
      'Response for a version that is published again with different content, if its first download had no ' +
        'published checksum: the new file, or 409',
    default: 'serve'
  })
}, { additionalProperties: false, default: {}, description: 'Store of verified files on disk' })

/**
 * The schema of the configuration. It defines defaults, validation, the names of the environment variables, the table
 * in the documentation and `config.example.toml`. The value of a property marked `secret` never appears in a message.
 */
export const Config = Type.Object({
  server: ServerConfig,
  log: LogConfig,
  rate_limit: RateLimitConfig,
  cache: CacheConfig,
  store: StoreConfig,
  gitea: Type.Array(GiteaConfig, { default: [] }),
  oci: Type.Array(OciConfig, { default: [] })
}, { $id: 'Config', additionalProperties: false, default: {} })

export type Config = Static<typeof Config>

type Tables = typeof Config.properties
/** The configuration as a host passes it: keys with a default are optional, and a single instance needs no list. */
export type RegistryConfig = TableOf<{
  [K in keyof Tables]: Tables[K] extends TArray<infer I> ? InputOf<I> | ReadonlyArray<InputOf<I>> : InputOf<Tables[K]>
}, keyof Tables>
export type ServerConfig = Static<typeof ServerConfig>
export type LogConfig = Static<typeof LogConfig>
export type RateLimitConfig = Static<typeof RateLimitConfig>
export type CacheConfig = Static<typeof CacheConfig>
export type StoreConfig = Static<typeof StoreConfig>
