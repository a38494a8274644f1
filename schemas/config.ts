import type { Static, TArray } from '@sinclair/typebox'
import { Type, type InputOf, type TableOf } from './input.ts'
import { pathPart } from './name.ts'
import { StringEnum } from './string-enum.ts'

// Beside JSON Schema's own keywords: `expected` says in words what a pattern wants, `secret` that a value is never
// shown, `path` that a relative one starts at the file that names it, `examples` what stands in config.example.toml for
// a key without default.

const Integer = (description: string, value: number, minimum: number, maximum: number) =>
  Type.Integer({ description, default: value, minimum, maximum })

/** Seconds, or parts of one. */
const Seconds = (description: string, value: number, minimum: number, maximum: number) =>
  Type.Number({ description, default: value, minimum, maximum })

const Patterns = (source: string, type: string, patterns: string[]) =>
  Type.Array(
    Type.String({ pattern: '^[^{}]*\\{name\\}[^{}]*$', expected: 'a repository name with {name} in it once' }),
    {
      description:
        `Names of ${source} repositories that are a ${type}, first match first; \`{name}\` stands for the ` +
          "extension's name",
      default: patterns
    }
  )

const InstanceName = (source: string) =>
  Type.String({
    description: "The instance's name in headers, metrics and logs; unique among all instances",
    default: source,
    pattern: '^[a-z0-9-]+$',
    expected: 'lower-case letters, digits and hyphens'
  })
const Address = (description: string, example: string) =>
  Type.String({
    description,
    pattern: '^https?://[^\\s/\\\\@?#]+(/[^\\s\\\\?#]*)?$',
    expected: 'an http:// or https:// address without user, query and fragment',
    examples: [example]
  })
const File = (description: string, example: string) =>
  Type.String({ description, minLength: 1, path: true, expected: 'a path', examples: [example] })

const Token = (description: string, example: string) =>
  Type.Optional(Type.String({
    description,
    pattern: '^[\\x21-\\x7e]+$',
    expected: 'printable characters without spaces',
    secret: true,
    examples: [example]
  }))
const Hosts = (description: string) =>
  Type.Array(Type.String({ pattern: '^[A-Za-z0-9.:\\[\\]-]+$', expected: 'host or host:port' }), {
    description,
    default: []
  })

const repositoryPath = `${pathPart}(/${pathPart})*`

const timeout = Seconds(
  'Longest wait for a connection, for the headers of an answer, and between two chunks of it',
  30,
  0.01,
  3600
)
const verifySsl = Type.Boolean({ description: "Check the server's certificate", default: true })
const caFile = Type.Optional(
  File(
    "PEM file of certificate authorities to trust instead of the system's; re-read when it changes",
    '/etc/ssl/private-ca.pem'
  )
)
const redirectHosts = Hosts(
  'Other hosts (`host` or `host:port`) that a download may be redirected to, without credentials'
)
const concurrency = Integer('Most requests under way to this instance at once', 8, 1, 256)
const queue = Integer('Most requests that wait for their turn; who comes then is refused with 503', 1000, 1, 1_000_000)
const priority = Integer(
  'Order of ownership: an extension belongs to the instance with the smallest number that has it',
  100,
  -1_000_000,
  1_000_000
)
const publicUrl = Type.Optional(Address(
  'Base of `repository` and `download_url`, as people outside reach this upstream; the configured address if unset',
  'https://git.example.com'
))
const Platform = (description: string) =>
  Type.Optional(Type.String({
    description,
    pattern: '^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$',
    expected: 'an operating system, an architecture and optionally a variant, such as linux/arm64 or linux/arm/v7',
    examples: ['linux/arm64']
  }))
const DownloadUrls = (value: 'upstream' | 'gateway') =>
  StringEnum(['upstream', 'gateway'], {
    description:
      "What `download_url` points at: the upstream's own address, or this registry's download route on " +
        '`server.public_url`',
    default: value
  })

/** What `server.host` must be, in words. */
export const listenAddress = 'an address such as 0.0.0.0, :: or 127.0.0.1, or a host name, without a port'
/** What an item of `server.trusted_proxies` must be, in words. */
export const proxyAddress = 'an address or a network such as 10.0.0.0/8'
/** What an item of `server.cors_origins` must be, in words. */
export const corsOrigin = '"*" or an origin as browsers send it, such as https://portal.example.com'

export const ServerConfig = Type.Object({
  host: Type.String({
    description:
      'Address to listen on: `0.0.0.0` for IPv4, `::` for IPv6 and IPv4 (only IPv4 on a machine without IPv6)',
    default: '0.0.0.0',
    expected: listenAddress
  }),
  port: Integer('Port to listen on; 0 takes a free one', 8082, 0, 65535),
  public_url: Type.Optional(Address(
    'Where people outside reach this registry; needed for `download_urls = "gateway"`', 'https://registry.example.com'
  )),
  trust_proxy: Type.Boolean({
    description:
      "Believe a reverse proxy's `X-Forwarded-For` header, for the log and the rate limit; its addresses may have " +
        'ports',
    default: false
  }),
  trusted_proxies: Type.Array(Type.String({ pattern: '^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$', expected: proxyAddress }), {
    description:
      'Addresses and networks of the proxies that are believed, with `trust_proxy`; whoever connects when empty',
    default: []
  }),
  cors_origins: Type.Array(Type.String({ pattern: '^(\\*|https?://[^\\s/\\\\@?#,*]+)$', expected: corsOrigin }), {
    description:
      'Origins whose pages may read the answers in a browser, without credentials; `*` for all, empty for none',
    default: ['*']
  }),
  max_event_loop_delay_seconds: Seconds(
    'Mean delay of the event loop beyond which requests to the catalog are refused with 503; 0 refuses none',
    1,
    0,
    3600
  ),
  max_downloads: Integer('Most downloads under way at once; one more is refused with 503', 256, 1, 100_000),
  request_budget_seconds: Seconds(
    'Longest that a client waits for upstreams, all together; of a download, until it begins',
    10,
    0.01,
    3600
  ),
  shutdown_delay_seconds: Integer(
    'Time between SIGTERM and the end of listening, for load balancers to look away',
    5,
    0,
    300
  )
}, { additionalProperties: false, default: {}, description: 'The HTTP server' })

export const LogConfig = Type.Object({
  level: StringEnum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    description: 'Least level that is logged', default: 'info'
  })
}, { additionalProperties: false, default: {}, description: 'Logs: JSON lines on standard output' })

export const RateLimitConfig = Type.Object({
  max: Integer(
    'Most requests to the catalog in one window from one client (address, or IPv6 network of 64 bits); 0 for no limit',
    0,
    0,
    1_000_000_000
  ),
  window_seconds: Integer('Length of the window', 60, 1, 86_400)
}, { additionalProperties: false, default: {}, description: 'How often one client may ask' })

export const CacheConfig = Type.Object({
  capacity: Integer('Most entries kept, least recently used go first', 1000, 16, 10_000_000),
  ttl_seconds: Integer('How long an entry is fresh', 300, 1, 86_400),
  stale_if_error_seconds: Integer(
    'How long after that an entry may stand in for a failing upstream',
    86_400,
    0,
    31_536_000
  ),
  negative_ttl_seconds: Integer(
    'How long a proven absence is remembered, and the oldest entry that a 404 may rest on',
    30,
    0,
    86_400
  ),
  directory: Type.Optional(
    File(
      'Directory that keeps the last good catalog, so that a restart during an outage still answers; it holds what ' +
        'private repositories are called, too',
      '/var/lib/extension-registry'
    )
  )
}, { additionalProperties: false, default: {}, description: 'What is remembered of the upstreams, and for how long' })

export const StoreConfig = Type.Object({
  enabled: Type.Boolean({
    description: 'Keep downloaded files on disk; without, each download is verified on its way and fetched anew',
    default: true
  }),
  directory: Type.Optional(
    File(
      'Where they are kept; below `$XDG_CACHE_HOME`, else `~/.cache`, by upstreams if unset. Processes may share one',
      '/var/cache/extension-registry'
    )
  ),
  max_bytes: Integer(
    'Most bytes kept, least recently used go first; a larger file is passed on without being kept',
    2 * 1024 ** 3,
    0,
    2 ** 50
  ),
  finish_bytes: Integer(
    'Size up to which a file is fetched to its end for the next one, though whoever asked for it has left',
    64 * 1024 ** 2,
    0,
    2 ** 50
  ),
  on_rerelease: StringEnum(['serve', 'refuse'], {
    description:
      'What becomes of a version that is published again with another content, where its publisher tells no ' +
        'checksum: it is served, or refused with 409',
    default: 'serve'
  })
}, { additionalProperties: false, default: {}, description: 'Verified files on disk' })

export const GiteaConfig = Type.Object({
  name: InstanceName('gitea'),
  url: Address('Base address of the Gitea or Forgejo server, a sub-path included', 'https://git.example.com'),
  organization: Type.String({
    description: 'Organisation or user whose repositories are the extensions',
    pattern: '^(?!\\.{1,2}$)[A-Za-z0-9._-]+$',
    expected: 'letters, digits, dots, hyphens and underscores',
    examples: ['extensions']
  }),
  token: Token(
    'Access token (`read:organization` and `read:repository`; for a user `read:user` too); not together with ' +
      '`token_file`',
    '0123456789abcdef'
  ),
  token_file: Type.Optional(File('File that holds the token; re-read when it changes', '/run/secrets/gitea-token')),
  include_private: Type.Boolean({
    description: 'Show private repositories that the token can read to everybody who can reach this registry',
    default: true
  }),
  public_url: publicUrl,
  download_urls: DownloadUrls('upstream'),
  platform: Platform(
    'Platform whose file is taken when a release has a file for each of several: the asset whose name ends in ' +
      '`_linux_arm64` or `-linux-arm64` before the suffix; the first file if unset'
  ),
  reconcile_seconds: Integer(
    "Time within which every repository is asked for its releases, though the server's list of repositories shows no " +
      'change; 0 asks all at each walk',
    3600,
    0,
    86_400
  ),
  timeout_seconds: timeout,
  verify_ssl: verifySsl,
  ca_file: caFile,
  redirect_hosts: redirectHosts,
  concurrency,
  queue,
  priority,
  mapping: Type.Object({
    provider: Patterns('Gitea', 'provider', ['{name}_prov', '{name}_provider']),
    taskserv: Patterns('Gitea', 'taskserv', ['{name}_taskserv']),
    cluster: Patterns('Gitea', 'cluster', ['{name}_cluster'])
  }, { additionalProperties: false, default: {}, description: 'Which repositories are extensions' })
}, { additionalProperties: false, description: 'A Gitea or Forgejo organisation; several as `[[gitea]]`' })

export const OciConfig = Type.Object({
  name: InstanceName('oci'),
  registry: Type.String({
    description: 'Address of a registry, or a directory that holds OCI image layouts: a path, or `file://…`',
    minLength: 1,
    path: true,
    expected: 'an http:// or https:// address or a path',
    examples: ['examples/registry']
  }),
  namespace: Type.String({
    description: 'Path below which the extensions are; empty for the root',
    default: '',
    pattern: `^(${repositoryPath})?$`,
    expected: 'a path without a slash at either end'
  }),
  discovery: StringEnum(['catalog', 'harbor', 'list'], {
    description:
      "How repositories are found: by the registry's `_catalog`, by Harbor's API for the project that the namespace " +
        'begins with, or by `repositories` alone',
    default: 'catalog'
  }),
  repositories: Type.Array(
    Type.String({
      pattern: `^${repositoryPath}$`,
      expected: 'a path without a slash at either end'
    }),
    {
      description: 'Repositories below the namespace that are looked at, whatever else is found',
      default: []
    }
  ),
  platform: Platform(
    'Platform whose artifact is taken from an index; the first artifact of the index if unset. A version without it ' +
      'is skipped'
  ),
  token: Token('Bearer token for every request; not together with other credentials', '0123456789abcdef'),
  token_file: Type.Optional(File('File that holds the token; re-read when it changes', '/run/secrets/oci-token')),
  username: Type.Optional(Type.String({
    description: 'User, or robot, to log in as, with `password_file`; not together with other credentials',
    pattern: '^[\\x21-\\x39\\x3b-\\x7e]+$',
    expected: 'printable characters without spaces and colons',
    examples: ['robot$extensions']
  })),
  password_file: Type.Optional(
    File('File that holds the password of `username`; re-read when it changes', '/run/secrets/oci-password')
  ),
  docker_config: Type.Optional(File(
    "Docker's `config.json`, whose `auths` have the credentials (no credential helpers); re-read when it changes; " +
      'not together with other credentials',
    '/run/secrets/config.json'
  )),
  public_url: publicUrl,
  download_urls: DownloadUrls('gateway'),
  timeout_seconds: timeout,
  verify_ssl: verifySsl,
  ca_file: caFile,
  redirect_hosts: redirectHosts,
  auth_hosts: Hosts(
    "Hosts (`host` or `host:port`), besides the registry's own, whose token server may see the credentials"
  ),
  concurrency,
  queue,
  priority,
  mapping: Type.Object({
    provider: Patterns('OCI', 'provider', [
      'provider/{name}',
      'providers/{name}',
      '{name}_prov',
      '{name}_provider',
      '{name}-prov',
      '{name}-provider'
    ]),
    taskserv: Patterns('OCI', 'taskserv', [
      'taskserv/{name}',
      'taskservs/{name}',
      '{name}_taskserv',
      '{name}-taskserv'
    ]),
    cluster: Patterns('OCI', 'cluster', ['cluster/{name}', 'clusters/{name}', '{name}_cluster', '{name}-cluster'])
  }, { additionalProperties: false, default: {}, description: 'Which repositories are extensions' })
}, {
  additionalProperties: false,
  description: 'An OCI registry, or a tree of OCI image layouts; several as `[[oci]]`'
})

/** Whether `registry` is an address rather than a directory. */
export const isRegistryAddress = (registry: string): boolean => /^https?:\/\//i.test(registry)

/**
 * Everything that can be configured: the one place that gives defaults, validation, the environment variables' names,
 * the table in the documentation and `config.example.toml`. A string property marked `secret` never appears in a
 * message.
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
/** The configuration as a host gives it: keys with a default are optional, and a single instance needs no list. */
export type RegistryConfig = TableOf<{
  [K in keyof Tables]: Tables[K] extends TArray<infer I> ? InputOf<I> | ReadonlyArray<InputOf<I>> : InputOf<Tables[K]>
}, keyof Tables>
export type ServerConfig = Static<typeof ServerConfig>
export type LogConfig = Static<typeof LogConfig>
export type RateLimitConfig = Static<typeof RateLimitConfig>
export type CacheConfig = Static<typeof CacheConfig>
export type StoreConfig = Static<typeof StoreConfig>
export type GiteaConfig = Static<typeof GiteaConfig>
export type OciConfig = Static<typeof OciConfig>
/** Which repository names mean an extension of which type; `{name}` in each pattern stands for its name. */
export type Mapping = Static<typeof GiteaConfig>['mapping']
