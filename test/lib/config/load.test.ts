import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import t from 'tap'
import { parseConfig } from '../../../lib/config/parse.ts'
import { gitea, giteaVariables, load, loadRefusal } from './refusal.ts'
import { matchStrictly } from '../../fakes/match.ts'

await t.test('a file', async t => {
  const dir = t.testdir({
    'good.toml': `
      [server]
      port = 9000
      [[gitea]]
      url = "https://git.example.com"
      organization = "infra"
      token_file = "secrets/token"
      ca_file = "/etc/ca.pem"
      [gitea.mapping]
      provider = ["{name}-tf"]
      [[gitea]]
      name = "second"
      url = "https://forge.example.com"
      organization = "infra"
      ca_file = "../ca.pem"
      [oci]
      registry = "layouts"
    `,
    'port.toml': '[server]\nport = "x"\n[oci]\nregistry = "layouts"',
    'address.toml': '[[oci]]\nregistry = "file:///srv/layouts"\n',
    'broken.toml': '[gitea]\ntoken = "h-u-s-h\norganization = "infra"\n',
    'twice.toml': '[gitea]\ntoken = "h-u-s-h"\ntoken = "h-u-s-h"\n',
    'empty.toml': '',
    'empty-list.toml': 'gitea = []\n',
    'bad-and-no-backend.toml': '[log]\nlevel = "loud"\n',
    'no-table.toml': 'gitea = "x"\n',
    'token.toml': '[gitea]\nurl = "https://git.example.com"\norganization = "infra"\ntoken = "h-u-s-h"\n'
  })
  const file = (name: string) => join(dir, `${name}.toml`)

  await t.test('is read with one instance or several, and its relative paths start at its directory', async t => {
    const { config, embedded } = await load({ file: file('good') })
    t.equal(embedded, false)
    t.equal(config.server.port, 9000)
    matchStrictly(t, config.gitea, [
      {
        name: 'gitea',
        token_file: join(dir, 'secrets/token'),
        ca_file: '/etc/ca.pem',
        mapping: { provider: ['{name}-tf'], cluster: ['{name}_cluster'] }
      },
      { name: 'second', ca_file: resolve(dir, '../ca.pem') }
    ])
    t.equal(config.oci[0]?.registry, join(dir, 'layouts'))
    t.equal(config.server.public_url, undefined)
  })

  await t.test('is selected by REGISTRY_CONFIG, or by the command line first, both relative to the working ' +
    'directory', async t => {
    t.equal((await load({ env: { REGISTRY_CONFIG: 'good.toml' }, cwd: dir })).config.server.port, 9000)
    t.equal(
      (await load({ file: 'good.toml', env: { REGISTRY_CONFIG: 'empty.toml' }, cwd: dir })).config.server.port,
      9000
    )
    t.equal((await load({ env: { REGISTRY_CONFIG: '' } })).embedded, true)
  })

  await t.test('may specify a directory of layouts by a file:// address', async t => {
    t.equal((await load({ file: file('address') })).config.oci[0]?.registry, 'file:///srv/layouts')
  })

  await t.test('is named in the error message', async t => {
    t.equal(
      await loadRefusal({ file: file('port') }),
      `server.port: expected an integer from 0 to 65535, got a string (in ${file('port')})`
    )
    t.equal(
      await loadRefusal({ file: file('no-table') }),
      `gitea: expected a table or a list of tables, got a string (in ${file('no-table')})`
    )
    t.equal(
      await loadRefusal({ file: file('no-table'), env: giteaVariables }),
      `gitea: expected a table or a list of tables, got a string (in ${file('no-table')})`
    )
  })

  await t.test('with invalid TOML is refused by line and column, without its text', async t => {
    t.equal(
      await loadRefusal({ file: file('broken') }),
      `--config: expected TOML, but line 2, column 17: control characters are not allowed in strings (in ${
        file('broken')
      })`
    )
    const line = await loadRefusal({ env: { REGISTRY_CONFIG: file('twice') } })
    t.match(line, /^REGISTRY_CONFIG: expected TOML, but line 3, column \d+: /)
    t.notMatch(line, 'h-u-s-h')
    const error = await load({ file: file('broken') }).catch((error: unknown) => error)
    t.notMatch(error instanceof Error ? `${error.stack} ${String(error.cause)}` : '', 'h-u-s-h')
  })

  await t.test('may begin with a BOM, and is refused in UTF-16', async t => {
    const text = '\uFEFF[server]\nport = 9000\n[oci]\nregistry = "layouts"\n'
    await writeFile(file('bom'), text)
    t.equal((await load({ file: file('bom') })).config.server.port, 9000)
    await writeFile(file('utf16'), text, 'utf16le')
    t.equal(
      await loadRefusal({ file: file('utf16') }),
      `--config: expected UTF-8, but the file is UTF-16 (in ${file('utf16')})`
    )
  })

  await t.test('that cannot be read is refused with the reason of the system', async t => {
    t.equal(
      await loadRefusal({ file: file('none') }),
      `--config: expected a file that can be read: no such file or directory (in ${file('none')})`
    )
    t.equal(
      await loadRefusal({ env: { REGISTRY_CONFIG: dir } }),
      `REGISTRY_CONFIG: expected a file that can be read: illegal operation on a directory (in ${dir})`
    )
  })

  await t.test('without a backend is refused, unless the environment has a backend', async t => {
    for (const name of ['empty', 'empty-list']) {
      t.equal(
        await loadRefusal({ file: file(name), env: { REGISTRY_SERVER_PORT: '1' } }),
        `gitea: missing, expected a [[gitea]] or an [[oci]] table (in ${file(name)})`
      )
    }
    matchStrictly(t, await load({ file: file('empty-list'), env: giteaVariables }), {
      embedded: false,
      config: { gitea: [gitea] }
    })
    t.equal(
      await loadRefusal({ file: file('bad-and-no-backend') }),
      `log.level: expected one of fatal, error, warn, info, debug, trace, silent (in ${file('bad-and-no-backend')})`
    )
  })

  await t.test('is overridden by the environment, key by key', async t => {
    const { config } = await load({
      file: file('good'),
      env: {
        REGISTRY_SERVER_PORT: '9001',
        REGISTRY_GITEA_ORGANIZATION: 'other',
        REGISTRY_GITEA_TOKEN_FILE: 'token',
        REGISTRY_OCI_REGISTRY: 'here'
      },
      cwd: '/srv'
    })
    t.equal(config.server.port, 9001)
    matchStrictly(t, config.gitea, [
      {
        url: gitea.url,
        organization: 'other',
        token_file: '/srv/token',
        ca_file: '/etc/ca.pem',
        mapping: { provider: ['{name}-tf'] }
      },
      { name: 'second', organization: 'infra' }
    ])
    t.equal(config.oci[0]?.registry, '/srv/here')
  })

  await t.test('and the environment are each named for their own invalid values', async t => {
    t.equal(
      await loadRefusal({ file: file('good'), env: { REGISTRY_SERVER_PORT: '70000' } }),
      'server.port: expected an integer from 0 to 65535 (in REGISTRY_SERVER_PORT)'
    )
    t.equal(
      await loadRefusal({ file: file('port'), env: { REGISTRY_SERVER_HOST: '::1' } }),
      `server.port: expected an integer from 0 to 65535, got a string (in ${file('port')})`
    )
    t.equal(
      await loadRefusal({ file: file('token'), env: { REGISTRY_GITEA_TOKEN_FILE: '/t' } }),
      `gitea[0].token_file: expected only one of token and token_file, and token is set in ${
        file('token')
      } (in REGISTRY_GITEA_TOKEN_FILE)`
    )
    t.equal(
      await loadRefusal({ file: file('address'), env: { REGISTRY_GITEA_URL: gitea.url } }),
      'gitea[0].organization: missing, expected letters, digits, dots, hyphens and underscores (in ' +
        'REGISTRY_GITEA_ORGANIZATION)'
    )
  })
})

await t.test('with neither a file nor a backend in the environment', async t => {
  const examples = resolve(import.meta.dirname, '../../../examples/registry')

  await t.test('the examples of the project are served from any working directory', async t => {
    const { config, embedded } = await load({})
    t.equal(embedded, true)
    t.strictSame(
      config,
      parseConfig({ server: { public_url: 'http://localhost:8082' }, oci: { name: 'oci', registry: examples } })
    )
  })

  await t.test('the rest of the environment applies', async t => {
    const { config, embedded } = await load({ env: { REGISTRY_SERVER_PORT: '9000', REGISTRY_LOG_LEVEL: 'debug' } })
    t.equal(embedded, true)
    t.equal(config.server.public_url, 'http://localhost:9000')
    t.equal(config.log.level, 'debug')
    t.equal(
      (await load({ env: { REGISTRY_SERVER_PUBLIC_URL: 'https://r.example.com' } })).config.server.public_url,
      'https://r.example.com'
    )
  })

  await t.test('no public_url is set while the port is unknown', async t => {
    t.notOk(Object.hasOwn((await load({ env: { REGISTRY_SERVER_PORT: '0' } })).config.server, 'public_url'))
  })
})
