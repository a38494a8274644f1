import type { Static } from '@sinclair/typebox'
import { Address, File, Integer, Seconds, Type } from './input.ts'
import { pathPart } from './name.ts'
import { StringEnum } from './string-enum.ts'

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
        '`server.public_url`. Without that key, `gateway` means no `download_url`',
    default: value
  })

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
  reconcile_seconds: Integer(
    'Maximum time until the versions of a repository are read again if the list of repositories shows no change; 0 ' +
      'reads all at each crawl, as for a directory',
    3600,
    0,
    86_400
  ),
  crawl_repositories: Integer(
    'Minimum number of repositories that a crawl reads, if the registry does not list changes; smaller catalogs are ' +
      'read completely by each crawl',
    130,
    1,
    20_000
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

export type GiteaConfig = Static<typeof GiteaConfig>
export type OciConfig = Static<typeof OciConfig>
/** Patterns of the repository names of each type; `{name}` stands for the name of the extension. */
export type Mapping = Static<typeof GiteaConfig>['mapping']
