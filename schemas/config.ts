import type { Static, TArray } from '@sinclair/typebox'
import { Type, type InputOf, type TableOf } from './input.ts'
import { pathPart } from './name.ts'
import { StringEnum } from './string-enum.ts'

// Keywords in addition to those of JSON Schema: `expected` describes the pattern in words. `secret` marks a value that
// is never shown, `path` one that may be relative to the configuration file. `examples` has the value for a key without
// default in config.example.toml.

const Integer = (description: string, value: number, minimum: number, maximum: number) =>
  Type.Integer({ description, default: value, minimum, maximum })

/** Returns the schema of a number of seconds, which may have a fraction. */
const Seconds = (description: string, value: number, minimum: number, maximum: number) =>
  Type.Number({ description, default: value, minimum, maximum })

const Patterns = (source: string, type: string, patterns: string[]) =>
  Type.Array(
    Type.String({ pattern: '^[^{}]*\\{name\\}[^{}]*$', expected: 'a repository name with {name} in it once' }),
    {
      description:
        `Patterns for the names of ${source} repositories that contain a ${type}; the first match wins. ` +
          '`{name}` stands for the name of the extension',
      default: patterns
    }
  )

const InstanceName = (source: string) =>
  Type.String({
    description: 'Name of the instance in headers, metrics and logs; unique among all instances',
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
  'Maximum wait for a connection, for the headers of a response, and between two chunks of its body',
  30,
  0.01,
  3600
)
const verifySsl = Type.Boolean({ description: 'Verify the certificate of the server', default: true })
const caFile = Type.Optional(
  File(
    "PEM file of certificate authorities to trust instead of the system's; read again when it changes",
    '/etc/ssl/private-ca.pem'
  )
)
const redirectHosts = Hosts(
  'Other hosts (`host` or `host:port`) to which a download may be redirected, without credentials'
)
const concurrency = Integer('Maximum number of concurrent requests to this instance', 8, 1, 256)
const queue = Integer('Maximum number of queued requests; further ones fail with 503', 1000, 1, 1_000_000)
const priority = Integer(
  'Order of ownership: an extension belongs to the instance with the lowest number that has it',
  100,
  -1_000_000,
  1_000_000
)
const publicUrl = Type.Optional(Address(
  'Public base address of this upstream, for `repository` and `download_url`; the configured address if unset',
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
      'Target of `download_url`: the address of the upstream, or the download route of this registry at ' +
        '`server.public_url`',
    default: value
  })

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
      'Response for a version that is published again with different content, if its publisher gives no checksum: ' +
        'the new file, or 409',
    default: 'serve'
  })
}, { additionalProperties: false, default: {}, description: 'Store of verified files on disk' })

export const GiteaConfig = Type.Object({
  name: InstanceName('gitea'),
  url: Address('Base address of the Gitea or Forgejo server, including its sub-path', 'https://git.example.com'),
  organization: Type.String({
    description: 'Organisation or user that owns the repositories of the extensions',
    pattern: '^(?!\\.{1,2}$)[A-Za-z0-9._-]+$',
    expected: 'letters, digits, dots, hyphens and underscores',
    examples: ['extensions']
  }),
  token: Token(
    'Access token with `read:organization` and `read:repository`, for a user also `read:user`; not together with ' +
      '`token_file`',
    '0123456789abcdef'
  ),
  token_file: Type.Optional(
    File('File that contains the token; read again when it changes', '/run/secrets/gitea-token')
  ),
  include_private: Type.Boolean({
    description: 'Publish private repositories that the token can read to all clients of this registry',
    default: true
  }),
  public_url: publicUrl,
  download_urls: DownloadUrls('upstream'),
  platform: Platform(
    'Platform of the file to choose if a release has files for several platforms; the first file if unset. The name ' +
      'of the asset ends in `_linux_arm64` or `-linux-arm64` before its suffix'
  ),
  reconcile_seconds: Integer(
    'Maximum time until the releases of a repository are read again if the list of repositories shows no change; 0 ' +
      'reads all at each crawl',
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
  }, { additionalProperties: false, default: {}, description: 'Patterns that map names of repositories to extensions' })
}, { additionalProperties: false, description: 'A Gitea or Forgejo organisation; several as `[[gitea]]`' })

export const OciConfig = Type.Object({
  name: InstanceName('oci'),
  registry: Type.String({
    description: 'Address of a registry, or a directory of OCI image layouts as a path or `file://…`',
    minLength: 1,
    path: true,
    expected: 'an http:// or https:// address or a path',
    examples: ['examples/registry']
  }),
  namespace: Type.String({
    description: 'Path that contains the extensions; empty for the root',
    default: '',
    pattern: `^(${repositoryPath})?$`,
    expected: 'a path without a slash at either end'
  }),
  discovery: StringEnum(['catalog', 'harbor', 'list'], {
    description:
      "Source of the list of repositories: the registry's `_catalog`, Harbor's API for the project at the beginning " +
        'of the namespace, or the key `repositories` alone',
    default: 'catalog'
  }),
  repositories: Type.Array(
    Type.String({
      pattern: `^${repositoryPath}$`,
      expected: 'a path without a slash at either end'
    }),
    {
      description: 'Repositories below the namespace that are read in addition to the discovered ones',
      default: []
    }
  ),
  platform: Platform(
    'Platform of the artifact to choose from an index; the first artifact if unset. A version without this platform ' +
      'is skipped'
  ),
  token: Token('Bearer token for every request; not together with other credentials', '0123456789abcdef'),
  token_file: Type.Optional(File('File that contains the token; read again when it changes', '/run/secrets/oci-token')),
  username: Type.Optional(Type.String({
    description: 'User or robot account for the login, with `password_file`; not together with other credentials',
    pattern: '^[\\x21-\\x39\\x3b-\\x7e]+$',
    expected: 'printable characters without spaces and colons',
    examples: ['robot$extensions']
  })),
  password_file: Type.Optional(
    File('File that contains the password of `username`; read again when it changes', '/run/secrets/oci-password')
  ),
  docker_config: Type.Optional(File(
    "Docker's `config.json` with the credentials in `auths`, without credential helpers; read again when it changes. " +
      'Not together with other credentials',
    '/run/secrets/config.json'
  )),
  public_url: publicUrl,
  download_urls: DownloadUrls('gateway'),
  timeout_seconds: timeout,
  verify_ssl: verifySsl,
  ca_file: caFile,
  redirect_hosts: redirectHosts,
  auth_hosts: Hosts(
    "Hosts (`host` or `host:port`), in addition to the registry's own, whose token server may receive the credentials"
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
  }, { additionalProperties: false, default: {}, description: 'Patterns that map names of repositories to extensions' })
}, {
  additionalProperties: false,
  description: 'An OCI registry, or a directory of OCI image layouts; several as `[[oci]]`'
})

/** Returns whether `registry` is an address and not a directory. */
export const isRegistryAddress = (registry: string): boolean => /^https?:\/\//i.test(registry)

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
export type GiteaConfig = Static<typeof GiteaConfig>
export type OciConfig = Static<typeof OciConfig>
/** Patterns of the repository names of each type; `{name}` stands for the name of the extension. */
export type Mapping = Static<typeof GiteaConfig>['mapping']
