import t from 'tap'
import { parseConfig } from '../../../lib/config/parse.ts'
import type { Config } from '../../../schemas/config.ts'
import { gitea, giteaVariables, loadRefusal, oci, refusal, registry } from './refusal.ts'

const refuse = async (input: unknown): Promise<string> => await refusal(() => parseConfig(input, () => 'test'))

await t.test('an object', async t => {
  await t.test('gets every default of the schema', async t => {
    const expected: Config = {
      server: {
        host: '0.0.0.0',
        port: 8082,
        trust_proxy: false,
        trusted_proxies: [],
        cors_origins: ['*'],
        max_event_loop_delay_seconds: 1,
        max_downloads: 256,
        request_budget_seconds: 10,
        shutdown_delay_seconds: 5
      },
      log: { level: 'info' },
      rate_limit: { max: 0, window_seconds: 60 },
      cache: { capacity: 1000, ttl_seconds: 300, stale_if_error_seconds: 86_400, negative_ttl_seconds: 30 },
      store: { enabled: true, max_bytes: 2_147_483_648, finish_bytes: 67_108_864, on_rerelease: 'serve' },
      gitea: [{
        name: 'gitea',
        ...gitea,
        include_private: true,
        download_urls: 'upstream',
        reconcile_seconds: 3600,
        timeout_seconds: 30,
        verify_ssl: true,
        redirect_hosts: [],
        concurrency: 8,
        queue: 1000,
        priority: 100,
        mapping: {
          provider: ['{name}_prov', '{name}_provider'],
          taskserv: ['{name}_taskserv'],
          cluster: ['{name}_cluster']
        }
      }],
      oci: [{
        name: 'oci',
        ...oci,
        namespace: '',
        discovery: 'catalog',
        repositories: [],
        reconcile_seconds: 3600,
        crawl_repositories: 130,
        download_urls: 'gateway',
        timeout_seconds: 30,
        verify_ssl: true,
        redirect_hosts: [],
        auth_hosts: [],
        concurrency: 8,
        queue: 1000,
        priority: 100,
        mapping: {
          provider: [
            'provider/{name}',
            'providers/{name}',
            '{name}_prov',
            '{name}_provider',
            '{name}-prov',
            '{name}-provider'
          ],
          taskserv: ['taskserv/{name}', 'taskservs/{name}', '{name}_taskserv', '{name}-taskserv'],
          cluster: ['cluster/{name}', 'clusters/{name}', '{name}_cluster', '{name}-cluster']
        }
      }]
    }
    t.strictSame(parseConfig({ gitea: [gitea], oci: [oci] }), expected)
  })

  await t.test('may be empty, and a backend is optional for embedding applications', async t => {
    t.strictSame(parseConfig({}).gitea, [])
    t.strictSame(parseConfig(undefined), parseConfig({}))
  })

  await t.test('has the same meaning with one table as with a list of one table', async t => {
    t.strictSame(parseConfig({ gitea, oci }), parseConfig({ gitea: [gitea], oci: [oci] }))
  })

  await t.test('keeps the values that are set', async t => {
    const config = parseConfig({
      server: { port: 0 },
      gitea: { ...gitea, verify_ssl: false, mapping: { cluster: ['k8s-{name}'] } }
    })
    t.equal(config.server.port, 0)
    t.equal(config.gitea[0]?.verify_ssl, false)
    t.strictSame(config.gitea[0]?.mapping, {
      provider: ['{name}_prov', '{name}_provider'],
      taskserv: ['{name}_taskserv'],
      cluster: ['k8s-{name}']
    })
  })

  await t.test('may have undefined for a key that is not set', async t => {
    const config = parseConfig({ log: undefined, gitea: { ...gitea, token: undefined } })
    t.equal(config.log.level, 'info')
    t.notOk(Object.hasOwn(config.gitea[0] ?? {}, 'token'))
  })

  await t.test('is not modified, and shares nothing with the result', async t => {
    const input = { gitea: { ...gitea, redirect_hosts: ['cdn.example.com'] } }
    const copy = structuredClone(input)
    const config = parseConfig(input)
    t.strictSame(input, copy)
    t.not(config.gitea[0]?.redirect_hosts, input.gitea.redirect_hosts)
    t.not(parseConfig({}).server, parseConfig({}).server)
  })

  await t.test('is the same when it is parsed again', async t => {
    const config = parseConfig({ gitea, oci: [oci, { ...registry, name: 'registry' }] })
    t.strictSame(parseConfig(config), config)
  })

  await t.test('is reported as an option of the plugin if no source is given', async t => {
    t.throws(() => parseConfig({ log: { level: 'loud' } }), {
      name: 'ConfigError',
      message: 'log.level: expected one of fatal, error, warn, info, debug, trace, silent (in the option config)',
      key: 'log.level',
      exitCode: 78
    })
  })
})

await t.test('a host to listen on is an address or a name, and IPv6 may have brackets', async t => {
  for (
    const host of [
      '0.0.0.0',
      '127.0.0.1',
      '::',
      '[::]',
      '::1',
      '[::1]',
      '[fe80::1%eth0]',
      'fe80::1%eth0',
      '::ffff:127.0.0.1',
      'localhost',
      'LOCALHOST',
      'registry.example.com',
      'registry.example.com.',
      'my_host',
      'bücher.example'
    ]
  ) {
    t.equal(parseConfig({ server: { host } }).server.host, host)
  }
  for (
    const host of [
      '',
      ' ',
      '*',
      '[',
      '[]',
      '[::',
      '::]',
      '[localhost]',
      '[127.0.0.1]',
      '0.0.0.0:8082',
      '[::]:8082',
      'localhost:8082',
      'http://localhost',
      '127.0.0.256',
      '10.0.0',
      '0',
      ':::',
      'a b',
      '0.0.0.0/0',
      'a..b',
      '-a'
    ]
  ) {
    t.equal(
      await refuse({ server: { host } }),
      'server.host: expected an address such as 0.0.0.0, :: or 127.0.0.1, or a host name, without a port (in test)',
      host
    )
  }
})

await t.test('an invalid configuration is refused with one line: the key, the expected value and the ' +
  'source', async t => {
  const registryName =
    'expected a name that a registry can have: lower-case letters and digits, with single dots, hyphens and ' +
      'underscores between them (in test)'
  const registryAddress =
    'expected an address without user, path and query; the prefix of the repository names is the namespace ' +
      '(in test)'
  const lines: Array<[what: string, input: unknown, line: string]> = [
    ['not a table', 'x', 'configuration: expected a table, got a string (in test)'],
    ['nothing', null, 'configuration: expected a table, got null (in test)'],
    [
      'an unknown section',
      { gitae: gitea },
      'gitae: unknown key, expected one of server, log, rate_limit, cache, store, gitea, oci (in test)'
    ],
    [
      'an unknown key',
      { server: { prot: 1 } },
      'server.prot: unknown key, expected one of host, port, public_url, trust_proxy, trusted_proxies, cors_origins, ' +
        'max_event_loop_delay_seconds, max_downloads, request_budget_seconds, shutdown_delay_seconds (in test)'
    ],
    [
      'a misspelt key, rather than the missing one',
      { gitea: [gitea, { name: 'b', url: gitea.url, organisation: 'infra' }] },
      'gitea[1].organisation: unknown key, expected one of name, url, organization, token, token_file, ' +
        'include_private, public_url, download_urls, platform, reconcile_seconds, timeout_seconds, verify_ssl, ' +
        'ca_file, redirect_hosts, concurrency, queue, priority, mapping (in test)'
    ],
    [
      'a key that tries to break the line',
      { log: { 'a\nb\u2028c': 1 } },
      'log.a b c: unknown key, expected one of level (in test)'
    ],
    [
      'a missing key',
      { gitea: { url: gitea.url } },
      'gitea[0].organization: missing, expected letters, digits, dots, hyphens and underscores (in test)'
    ],
    [
      'an instance that is not a table',
      { gitea: 'x' },
      'gitea: expected a table or a list of tables, got a string (in test)'
    ],
    ['a section that is not a table', { server: [] }, 'server: expected a table, got a list (in test)'],
    ['a list for a single table', { server: [{ port: 1 }] }, 'server: expected a table, got a list (in test)'],
    [
      'a date for a mapping',
      { oci: { ...oci, mapping: new Date() } },
      'oci[0].mapping: expected a table, got a date (in test)'
    ],
    ['an instance in a list that is not a table', { oci: [oci, null] }, 'oci[1]: expected a table, got null (in test)'],
    [
      'a string for an integer',
      { server: { port: '8082' } },
      'server.port: expected an integer from 0 to 65535, got a string (in test)'
    ],
    [
      'a fraction for an integer',
      { server: { port: 80.5 } },
      'server.port: expected an integer from 0 to 65535, got a number (in test)'
    ],
    [
      'a number above the maximum',
      { server: { port: 65536 } },
      'server.port: expected an integer from 0 to 65535 (in test)'
    ],
    [
      'a number below the minimum',
      { cache: { capacity: 0 } },
      'cache.capacity: expected an integer from 16 to 10000000 (in test)'
    ],
    [
      'a proxy that is not an address',
      { server: { trust_proxy: true, trusted_proxies: ['10.0.0.1', '10.1'] } },
      'server.trusted_proxies[1]: expected an address or a network such as 10.0.0.0/8 (in test)'
    ],
    [
      'a proxy by host name',
      { server: { trust_proxy: true, trusted_proxies: ['proxy.example'] } },
      'server.trusted_proxies[0]: expected an address or a network such as 10.0.0.0/8 (in test)'
    ],
    [
      'a network prefix that is too long',
      { server: { trust_proxy: true, trusted_proxies: ['10.0.0.0/33'] } },
      'server.trusted_proxies[0]: expected an address or a network such as 10.0.0.0/8 (in test)'
    ],
    [
      'a network that includes every address',
      { server: { trust_proxy: true, trusted_proxies: ['::/0'] } },
      'server.trusted_proxies[0]: expected an address or a network such as 10.0.0.0/8 (in test)'
    ],
    [
      'proxies while trust_proxy is false',
      { server: { trusted_proxies: ['10.0.0.1'] } },
      'server.trusted_proxies: expected an empty list, for trust_proxy is false (in test)'
    ],
    [
      'an origin with a path',
      { server: { cors_origins: ['https://portal.example.com/'] } },
      'server.cors_origins[0]: expected "*" or an origin as browsers send it, such as https://portal.example.com (in ' +
        'test)'
    ],
    [
      'an origin that browsers do not send',
      { server: { cors_origins: ['https://portal.example.com:443'] } },
      'server.cors_origins[0]: expected "*" or an origin as browsers send it, such as https://portal.example.com (in ' +
        'test)'
    ],
    [
      'a string for a boolean',
      { server: { trust_proxy: 'false' } },
      'server.trust_proxy: expected true or false, got a string (in test)'
    ],
    [
      'a number for a string',
      { gitea: { ...gitea, ca_file: 7 } },
      'gitea[0].ca_file: expected a path, got a number (in test)'
    ],
    [
      'a date for a string',
      { server: { host: new Date() } },
      'server.host: expected an address such as 0.0.0.0, :: or 127.0.0.1, or a host name, without a port, got a date ' +
        '(in test)'
    ],
    [
      'an empty string',
      { server: { host: '' } },
      'server.host: expected an address such as 0.0.0.0, :: or 127.0.0.1, or a host name, without a port (in test)'
    ],
    ...['arm64', 'linux/', '/arm64', 'linux/arm/v7/x', 'linux arm64', 'linux/arm64 '].flatMap(
      (platform): Array<[string, unknown, string]> => {
        const expected =
          'expected an operating system, an architecture and optionally a variant, such as linux/arm64 or ' +
            'linux/arm/v7 (in test)'
        return [
          [`the Gitea platform ${platform}`, { gitea: { ...gitea, platform } }, `gitea[0].platform: ${expected}`],
          [`the OCI platform ${platform}`, { oci: { registry: '/x', platform } }, `oci[0].platform: ${expected}`]
        ]
      }
    ),
    [
      'an unknown value of an enumeration',
      { gitea: { ...gitea, download_urls: 'both' } },
      'gitea[0].download_urls: expected one of upstream, gateway (in test)'
    ],
    [
      'a string for a list',
      { gitea: { ...gitea, redirect_hosts: 'a.example' } },
      'gitea[0].redirect_hosts: expected a list of strings, got a string (in test)'
    ],
    [
      'a bad item of a list',
      { gitea: { ...gitea, redirect_hosts: ['a.example', 'https://b.example'] } },
      'gitea[0].redirect_hosts[1]: expected host or host:port (in test)'
    ],
    [
      'a mapping without the placeholder',
      { oci: { ...oci, mapping: { cluster: ['clusters'] } } },
      'oci[0].mapping.cluster[0]: expected a repository name with {name} in it once (in test)'
    ],
    [
      'a mapping with two placeholders',
      { gitea: { ...gitea, mapping: { cluster: ['{name}_{name}'] } } },
      'gitea[0].mapping.cluster[0]: expected a repository name with {name} in it once (in test)'
    ],
    [
      'a namespace with a slash at its end',
      { oci: { ...oci, namespace: 'a/b/' } },
      'oci[0].namespace: expected a path without a slash at either end (in test)'
    ],
    [
      'an instance name with capitals',
      { oci: { ...oci, name: 'Harbor' } },
      'oci[0].name: expected lower-case letters, digits and hyphens (in test)'
    ],
    [
      'the same name for two instances of one kind',
      { gitea: [gitea, gitea] },
      'gitea[1].name: expected a name that no other instance has (in test)'
    ],
    [
      'the same name for instances of two kinds',
      { gitea: { ...gitea, name: 'main' }, oci: { ...oci, name: 'main' } },
      'oci[0].name: expected a name that no other instance has (in test)'
    ],
    [
      'a token and a token file',
      { gitea: { ...gitea, token: 'hush', token_file: '/t' } },
      'gitea[0].token_file: expected only one of token and token_file, and token is set in test (in test)'
    ],
    [
      'an OCI registry of another scheme',
      { oci: { registry: 'OCI://ghcr.io' } },
      'oci[0].registry: expected an http:// or https:// address or a directory; oci:// is not supported (in test)'
    ],
    ['a registry with a path', { oci: { registry: 'https://ghcr.io/org' } }, `oci[0].registry: ${registryAddress}`],
    ['a registry with a user', { oci: { registry: 'https://me:hush@ghcr.io' } }, `oci[0].registry: ${registryAddress}`],
    ['a registry with a query', { oci: { registry: 'https://ghcr.io?x=1' } }, `oci[0].registry: ${registryAddress}`],
    [
      'a registry with an invalid port',
      { oci: { registry: 'https://ghcr.io:99999' } },
      `oci[0].registry: ${registryAddress}`
    ],
    [
      'two kinds of credentials',
      { oci: { ...registry, token: 'hush', docker_config: '/c' } },
      'oci[0].docker_config: expected only one of token, token_file, username and docker_config, and token is set in ' +
        'test (in test)'
    ],
    [
      'a token and a token file for a registry',
      { oci: { ...registry, token: 'hush', token_file: '/t' } },
      'oci[0].token_file: expected only one of token, token_file, username and docker_config, and token is set in ' +
        'test (in test)'
    ],
    [
      'a user without a password',
      { oci: { ...registry, username: 'me' } },
      'oci[0].password_file: missing, expected username and password_file together (in test)'
    ],
    [
      'a password without a user',
      { oci: { ...registry, password_file: '/p' } },
      'oci[0].username: missing, expected username and password_file together (in test)'
    ],
    [
      'a user with a colon',
      { oci: { ...registry, username: 'me:hush', password_file: '/p' } },
      'oci[0].username: expected printable characters without spaces and colons (in test)'
    ],
    [
      'an empty list of repositories for discovery by list',
      { oci: { ...registry, discovery: 'list' } },
      'oci[0].repositories: expected at least one, for discovery is list (in test)'
    ],
    [
      'an empty namespace for discovery by Harbor',
      { oci: { ...registry, discovery: 'harbor' } },
      'oci[0].namespace: expected a project of Harbor, for discovery is harbor (in test)'
    ],
    [
      'an unknown discovery',
      { oci: { ...registry, discovery: 'guess' } },
      'oci[0].discovery: expected one of catalog, harbor, list (in test)'
    ],
    [
      'a repository with a slash at its start',
      { oci: { ...registry, repositories: ['/a'] } },
      'oci[0].repositories[0]: expected a path without a slash at either end (in test)'
    ],
    [
      'a namespace that is invalid in registries',
      { oci: { ...registry, namespace: 'Provisioning' } },
      `oci[0].namespace: ${registryName}`
    ],
    ['a repository that is invalid in registries', {
      oci: { ...registry, repositories: ['provider/aws', 'provider/a..b'] }
    }, `oci[0].repositories[1]: ${registryName}`],
    [
      'an auth host with a scheme',
      { oci: { ...registry, auth_hosts: ['https://auth.example.com'] } },
      'oci[0].auth_hosts[0]: expected host or host:port (in test)'
    ],
    ...Object.entries({
      discovery: 'harbor',
      repositories: ['a'],
      token: 'hush',
      token_file: '/t',
      username: 'me',
      password_file: '/p',
      docker_config: '/c',
      public_url: 'https://x.example',
      timeout_seconds: 5,
      verify_ssl: false,
      ca_file: '/ca',
      redirect_hosts: ['x'],
      auth_hosts: ['x']
    })
      .map((
        [key, value]
      ): [string, unknown, string] => [
        `${key} for a directory`,
        { oci: { ...oci, [key]: value } },
        `oci[0].${key}: expected no such key for a directory (in test)`
      ])
  ]
  for (const [what, input, line] of lines) t.equal(await refuse(input), line, what)

  const address = 'expected an http:// or https:// address without user, query and fragment (in test)'
  for (
    const bad of [
      'git.example.com',
      'ftp://git.example.com',
      'https://',
      'https://me@git.example.com',
      'https://me:hush@git.example.com/x',
      'https://git.example.com?a=1',
      'https://git.example.com/#top',
      'https://git.example.com/a b',
      'https://me:hush\\@git.example.com'
    ]
  ) {
    t.equal(await refuse({ gitea: { ...gitea, url: bad } }), `gitea[0].url: ${address}`, bad)
    t.equal(await refuse({ gitea: { ...gitea, public_url: bad } }), `gitea[0].public_url: ${address}`, bad)
    t.equal(await refuse({ server: { public_url: bad } }), `server.public_url: ${address}`, bad)
  }
  t.equal(
    await refuse({ gitea: { ...gitea, url: 'https://git.example.com:99999' } }),
    'gitea[0].url: expected a valid address (in test)'
  )
  for (
    const good of [
      'http://localhost:3000',
      'https://git.example.com/forge/',
      'https://[2001:db8::1]:8443',
      'https://git.example.com/@team'
    ]
  ) {
    t.equal(await refuse({ gitea: { ...gitea, url: good } }), 'no error', good)
  }
  t.equal(await refuse({ oci: { registry: 'file:///srv/layouts' } }), 'no error')
  for (const good of ['https://ghcr.io', 'HTTP://localhost:5000/', 'https://[2001:db8::1]:5000']) {
    t.equal(await refuse({ oci: { registry: good } }), 'no error', good)
  }
})

await t.test('an error message never contains a secret, at any key', async t => {
  const secret = 'h-u-s-h'
  const inputs: unknown[] = [
    { gitea: { ...gitea, token: { value: secret } } },
    { gitea: { ...gitea, token: { [secret]: 1 } } },
    { gitea: { ...gitea, token: [secret] } },
    { gitea: { ...gitea, token: `${secret}\n` } },
    { gitea: { ...gitea, token: secret, token_file: '/t' } },
    { gitea: { ...gitea, tokn: secret } },
    { gitea: { ...gitea, organization: `x ${secret}` } },
    { gitea: { ...gitea, url: `https://me:${secret}@git.example.com` } },
    { gitea: { ...gitea, name: `U${secret}` } },
    { oci: { ...registry, token: `${secret} ${secret}` } },
    { oci: { ...registry, token: secret, docker_config: secret } },
    { oci: { registry: `https://me:${secret}@ghcr.io` } },
    { gitea: secret },
    { server: { port: secret, host: secret } },
    { log: { level: secret } },
    secret
  ]
  for (const input of inputs) {
    const line = await refuse(input)
    t.not(line, 'no error')
    t.notMatch(line, secret)
  }
  const line = await loadRefusal({
    env: { ...giteaVariables, REGISTRY_GITEA_TOKEN: secret, REGISTRY_GITEA_TIMEOUT_SECONDS: secret }
  })
  t.equal(line, 'gitea[0].timeout_seconds: expected a number from 0.01 to 3600 (in REGISTRY_GITEA_TIMEOUT_SECONDS)')
  t.equal(
    await loadRefusal({ env: { ...giteaVariables, REGISTRY_GITEA_TOKEN: `${secret} ${secret}` } }),
    'gitea[0].token: expected printable characters without spaces (in REGISTRY_GITEA_TOKEN)'
  )
})
