import t from 'tap'
import { configKeys } from '../../../lib/config/keys.ts'
import { gitea, giteaVariables, load, loadRefusal } from './refusal.ts'

await t.test('the environment sets every key of the schema, with its type', async t => {
  const texts = { string: '', integer: '64', number: '0.25', boolean: '0', list: 'x-{name}, ,{name}-y ' }
  const strings: Record<string, string> = {
    'server.host': '::1',
    'server.public_url': 'https://registry.example.com',
    'server.cors_origins': 'https://a.example, http://b.example:9000',
    'log.level': 'warn',
    'cache.directory': '/c',
    'store.directory': '/store',
    'store.on_rerelease': 'refuse',
    'gitea.name': 'forge',
    'gitea.url': 'https://forge.example.com',
    'gitea.organization': 'infra',
    'gitea.token': 'hush',
    'gitea.token_file': '/t',
    'gitea.public_url': 'https://public.example.com',
    'gitea.download_urls': 'gateway',
    'gitea.platform': 'linux/arm64',
    'gitea.ca_file': '/ca.pem',
    'gitea.redirect_hosts': 'a.example, b.example:9000',
    'oci.name': 'layouts',
    'oci.registry': 'https://registry.example.com',
    'oci.namespace': 'a/b',
    'oci.discovery': 'harbor',
    'oci.repositories': 'provider/aws, provider/gcp',
    'oci.platform': 'linux/arm/v7',
    'oci.username': 'robot$me',
    'oci.password_file': '/p',
    'oci.public_url': 'https://public.example.com',
    'oci.download_urls': 'upstream',
    'oci.ca_file': '/ca.pem',
    'oci.redirect_hosts': 'a.example, b.example:9000',
    'oci.auth_hosts': 'auth.example'
  }
  const lists: Record<string, string[]> = {
    'server.cors_origins': ['https://a.example', 'http://b.example:9000'],
    'gitea.redirect_hosts': ['a.example', 'b.example:9000'],
    'oci.redirect_hosts': ['a.example', 'b.example:9000'],
    'oci.repositories': ['provider/aws', 'provider/gcp'],
    'oci.auth_hosts': ['auth.example']
  }
  // These keys conflict with the credentials above or with trust_proxy = false.
  const others = ['server.trusted_proxies', 'gitea.token_file', 'oci.token', 'oci.token_file', 'oci.docker_config']
  const keys = configKeys.filter(({ key }) => !others.includes(key))
  const { config } = await load({
    env: Object.fromEntries(keys.map(({ key, environment, type }) => [environment, ` ${strings[key] ?? texts[type]} `]))
  })
  const flat = (value: unknown, key: string): Array<[string, unknown]> => {
    if (typeof value !== 'object' || value === null || (Array.isArray(value) && typeof value[0] === 'string')) {
      return [[key, value]]
    }
    const children = Array.isArray(value) ? [['', value[0]] as const] : Object.entries(value)
    return children.flatMap(([name, child]) => flat(child, [key, name].filter(part => part !== '').join('.')))
  }
  const expected = (key: string, type: keyof typeof texts): unknown =>
    ({ string: strings[key], integer: 64, number: 0.25, boolean: false, list: lists[key] ?? ['x-{name}', '{name}-y'] })[
      type
    ]
  t.same(
    Object.fromEntries(flat(config, '')),
    Object.fromEntries(keys.map(({ key, type }) => [key, expected(key, type)]))
  )
})

await t.test('the environment variables have their documented names', async t => {
  const names = configKeys.map(({ environment }) => environment)
  for (
    const name of [
      'REGISTRY_SERVER_PORT',
      'REGISTRY_GITEA_URL',
      'REGISTRY_GITEA_ORGANIZATION',
      'REGISTRY_GITEA_TOKEN',
      'REGISTRY_GITEA_TOKEN_FILE',
      'REGISTRY_OCI_REGISTRY',
      'REGISTRY_OCI_NAMESPACE',
      'REGISTRY_GITEA_MAPPING_PROVIDER',
      'REGISTRY_CACHE_TTL_SECONDS'
    ]
  ) {
    t.ok(names.includes(name), name)
  }
  t.equal(new Set(names).size, names.length)
})

await t.test('the environment writes booleans as true, false, 1 and 0', async t => {
  for (const [text, value] of [['true', true], ['1', true], ['True', true], ['false', false], ['0', false]] as const) {
    t.equal(
      (await load({ env: { ...giteaVariables, REGISTRY_GITEA_VERIFY_SSL: text } })).config.gitea[0]?.verify_ssl,
      value,
      text
    )
  }
  for (const text of ['yes', '2', 'constructor']) {
    t.equal(
      await loadRefusal({ env: { ...giteaVariables, REGISTRY_GITEA_VERIFY_SSL: text } }),
      'gitea[0].verify_ssl: expected true or false (in REGISTRY_GITEA_VERIFY_SSL)',
      text
    )
  }
})

await t.test('the environment writes integers in digits', async t => {
  t.equal((await load({ env: { ...giteaVariables, REGISTRY_GITEA_PRIORITY: '-5' } })).config.gitea[0]?.priority, -5)
  for (const text of ['8082.5', '0x10', '1e3', '8 082', 'http', '99999999999999999999999']) {
    t.equal(
      await loadRefusal({ env: { REGISTRY_SERVER_PORT: text } }),
      'server.port: expected an integer from 0 to 65535 (in REGISTRY_SERVER_PORT)',
      text
    )
  }
})

await t.test('an empty environment variable sets nothing, even if its name is unknown', async t => {
  const { config } = await load({
    env: { ...giteaVariables, REGISTRY_GITEA_TOKEN: '', REGISTRY_GITEA_NAME: ' ', REGISTRY_GITEA_WHATEVER: '' }
  })
  t.notOk(Object.hasOwn(config.gitea[0] ?? {}, 'token'))
  t.equal(config.gitea[0]?.name, 'gitea')
  t.equal((await load({ env: { REGISTRY_OCI_REGISTRY: '' } })).embedded, true)
})

await t.test('an environment variable for an unknown key of a section is refused', async t => {
  t.equal(
    await loadRefusal({ env: { REGISTRY_LOG_FORMAT: 'json' } }),
    'log.format: unknown key, expected one of level (in REGISTRY_LOG_FORMAT)'
  )
  t.match(
    await loadRefusal({ env: { ...giteaVariables, REGISTRY_GITEA_ORGANISATION: 'infra' } }),
    /^gitea\[0\]\.organisation: unknown key, expected one of name, url, .*, mapping\.cluster \(in REGISTRY_GITEA_ORGANISATION\)$/
  )
  t.match(
    await loadRefusal({ env: { REGISTRY_GITEA_MAPPING_PROVIDERS: '{name}' } }),
    /^gitea\[0\]\.mapping_providers: unknown key, /
  )
  t.match(await loadRefusal({ env: { REGISTRY_GITEA_SERVICE: 'x' } }), /^gitea\[0\]\.service: unknown key, /)
  t.match(await loadRefusal({ env: { REGISTRY_GITEA_PORT: '3000' } }), /^gitea\[0\]\.port: unknown key, /)
})

await t.test('a missing key is reported with the name of its environment variable', async t => {
  t.equal(
    await loadRefusal({ env: { REGISTRY_GITEA_URL: gitea.url } }),
    'gitea[0].organization: missing, expected letters, digits, dots, hyphens and underscores (in ' +
      'REGISTRY_GITEA_ORGANIZATION)'
  )
  t.equal(
    await loadRefusal({ env: { REGISTRY_OCI_NAMESPACE: 'a' } }),
    'oci[0].registry: missing, expected an http:// or https:// address or a path (in REGISTRY_OCI_REGISTRY)'
  )
  t.equal(
    await loadRefusal({ env: { ...giteaVariables, REGISTRY_GITEA_TOKEN: 'x', REGISTRY_GITEA_TOKEN_FILE: '/t' } }),
    'gitea[0].token_file: expected only one of token and token_file, and token is set in REGISTRY_GITEA_TOKEN (in ' +
      'REGISTRY_GITEA_TOKEN_FILE)'
  )
})

await t.test('an invalid item of a list is reported with the name of its environment variable', async t => {
  t.equal(
    await loadRefusal({ env: { ...giteaVariables, REGISTRY_GITEA_MAPPING_CLUSTER: '{name},k8s' } }),
    'gitea[0].mapping.cluster[1]: expected a repository name with {name} in it once (in REGISTRY_GITEA_MAPPING_CLUSTER)'
  )
})

await t.test('environment variables of Kubernetes Services and of other programs ' +
  'are ignored', async t => {
  const foreign: Record<string, string> = {}
  for (const service of ['REGISTRY', 'REGISTRY_SERVER', 'REGISTRY_GITEA', 'REGISTRY_OCI', 'REGISTRY_CACHE_MAIN']) {
    foreign[`${service}_SERVICE_HOST`] = '10.0.0.1'
    foreign[`${service}_SERVICE_PORT`] = '8082'
    foreign[`${service}_SERVICE_PORT_HTTP`] = '8082'
    foreign[`${service}_PORT`] = 'tcp://10.0.0.1:8082'
    for (const protocol of ['TCP', 'UDP', 'SCTP']) {
      foreign[`${service}_PORT_8082_${protocol}`] = `${protocol.toLowerCase()}://10.0.0.1:8082`
      foreign[`${service}_PORT_8082_${protocol}_PROTO`] = protocol.toLowerCase()
      foreign[`${service}_PORT_8082_${protocol}_PORT`] = '8082'
      foreign[`${service}_PORT_8082_${protocol}_ADDR`] = '10.0.0.1'
    }
  }
  Object.assign(foreign, {
    REGISTRY_AUTH_TOKEN: 'x',
    REGISTRY_GITEA: 'x',
    REGISTRY_HTTP_ADDR: ':5000',
    registry_server_port: '1',
    REGISTRYSERVER_PORT: '1',
    PATH: '/bin'
  })
  t.strictSame((await load({ env: foreign })).config, (await load({ env: {} })).config)
  t.strictSame(
    (await load({ env: { ...foreign, ...giteaVariables } })).config,
    (await load({ env: giteaVariables })).config
  )
})
