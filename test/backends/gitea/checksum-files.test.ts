import t, { type Test } from 'tap'
import fc from 'fast-check'
import type { ExtensionVersion } from '../../../schemas/extension.ts'
import { digestIn } from '../../../backends/gitea/checksums.ts'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake } from '../../fakes/gitea.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { holds } from '../../properties/run.ts'

const a = 'a'.repeat(64)
const b = 'b'.repeat(64)
const name = 'x_prov.tar.gz'

const text = (content: string, own: boolean) => digestIn(Buffer.from(content), name, own)

await t.test('an entry of a list matches by its name, or by its base name when no other entry does', t => {
  const forms: Record<string, [content: string, expected: string | undefined]> = {
    'GNU text': [`${a}  ${name}\n`, a],
    'GNU binary': [`${a} *${name}\n`, a],
    'one blank': [`${a} ${name}\n`, a],
    'a tabulator': [`${a}\t${name}\n`, a],
    'uppercase digest': [`${a.toUpperCase()}  ${name}\n`, a],
    'CRLF, other lines': [`# comment\r\n\r\n${b}  other.zip\r\n${a}  ${name}\r\n`, a],
    'CR only': [`${b}  other.zip\r${a}  ${name}\r`, a],
    'current directory': [`${a}  ./${name}`, a],
    'a path': [`${a}  dist/${name}`, a],
    'an absolute path with a binary star': [`${a} */home/builder/out/${name}`, a],
    'a Windows path': [`${a}  dist\\${name}`, a],
    'an absolute Windows path': [`${a} *C:\\build\\dist\\${name}`, a],
    BSD: [`SHA256 (${name}) = ${a}`, a],
    'BSD with a path': [`SHA256 (dist/${name}) = ${a}`, a],
    openssl: [`SHA256(${name})= ${a}`, a],
    'openssl 3': [`SHA2-256(dist/${name})= ${a}`, a],
    'prefixed digest': [`sha256:${a}  ${name}`, a],
    'escaped name': [`\\${a}  dist\\\\${name}`, a],
    'escaped BSD name': [`\\SHA256 (dist\\\\${name}) = ${a}`, a],
    'the exact name before a base name': [`${b}  dist/${name}\n${a}  ${name}`, a],
    'the current directory before a base name': [`${b}  dist/${name}\n${a}  ./${name}`, a],
    'the same digest twice': [`${a}  one/${name}\n${a}  two/${name}`, a],
    'two base names with different digests': [`${a}  one/${name}\n${b}  two/${name}`, undefined],
    'two exact names with different digests': [`${a}  ${name}\n${b}  ${name}`, undefined],
    'two exact names with different digests and a base name': [
      `${a}  ${name}\n${b}  ${name}\n${a}  dist/${name}`,
      undefined
    ],
    'another letter case': [`${a}  X_Prov.tar.gz`, undefined],
    'a longer name': [`${a}  my-${name}`, undefined],
    'a name with an ending': [`${a}  ${name}.sig`, undefined],
    'a directory of that name': [`${a}  ${name}/readme`, undefined],
    'SHA-512': [`${a}${b}  ${name}`, undefined],
    MD5: [`${'c'.repeat(32)}  ${name}`, undefined],
    'SHA-512 in BSD form': [`SHA512 (${name}) = ${a}${b}`, undefined],
    'another algorithm of 256 bits': [
      `SHA3-256 (${name}) = ${a}\nBLAKE2s256 (${name}) = ${a}\nSHA512/256 (${name}) = ${a}`,
      undefined
    ],
    'a comment': [`# ${a}  ${name}`, undefined],
    'no digest': [`no digest at all ${name}`, undefined],
    'a digest without a name': [a, undefined],
    'standard input': [`${a}  -`, undefined],
    'an escaped newline in the name': [`\\${a}  dist\\n${name}`, undefined]
  }
  for (const [form, [content, expected]] of Object.entries(forms)) t.equal(text(content, false), expected, form)
  t.end()
})

await t.test('the checksum file of an asset may contain only the digest', t => {
  const forms: Record<string, [content: string, expected: string | undefined]> = {
    alone: [a, a],
    'with blanks': [`  ${a.toUpperCase()} \r\n`, a],
    prefixed: [`sha256:${a}\n`, a],
    'standard input': [`${a}  -\n`, a],
    'standard input of openssl': [`SHA2-256(stdin)= ${a}\n`, a],
    'openssl without a name': [`(stdin)= ${a}\n`, a],
    'with its name': [`${a}  ${name}`, a],
    'with a path': [`${a} */home/runner/${name}`, a],
    'another name': [`${a}  another.tar.gz`, undefined],
    'two digests': [`${a}\n${b}`, undefined],
    'a name before a digest alone': [`${b}\n${a}  ${name}`, a],
    'SHA-512': [a + b, undefined],
    'a page': [`<html>${a}</html>`, undefined]
  }
  for (const [form, [content, expected]] of Object.entries(forms)) t.equal(text(content, true), expected, form)
  t.end()
})

await t.test('a checksum file may be UTF-8 or UTF-16 with a byte order mark', t => {
  const line = `${a}  ${name}\r\n`
  const utf16 = Buffer.from(`\ufeff${line}`, 'utf16le')
  t.equal(digestIn(Buffer.from(`\ufeff${line}`), name, false), a)
  t.equal(digestIn(utf16, name, false), a)
  t.equal(digestIn(Buffer.from(utf16).swap16(), name, false), a)
  t.equal(digestIn(Buffer.from(`\ufeff${a}`), name, true), a)
  t.equal(digestIn(Buffer.concat([utf16, Buffer.from([0])]), name, false), a, 'an odd length')
  t.equal(digestIn(Buffer.from([0xfe, 0xff, 0]), name, false), undefined)
  t.equal(digestIn(Buffer.alloc(0), name, true), undefined)
  t.end()
})

await t.test('the time to read a line does not depend on its form', t => {
  const started = performance.now()
  const long = 200_000
  for (const part of [' ', '\t', ')', '(', ' ) = ', '/', '\\', '*', '\r', 'sha256:', 'SHA256 (']) {
    const many = part.repeat(long / part.length)
    for (
      const content of [
        many,
        `${a}${many}`,
        `${a} ${many}x`,
        `SHA256 (${many}) = `,
        `SHA256 (x${many}`,
        `\\${a}  ${many}`
      ]
    ) {
      t.equal(text(content, false), undefined)
      text(content, true)
    }
  }
  t.ok(performance.now() - started < 5000)
  t.end()
})

await t.test('a digest is returned only when the list states it for that file alone', async t => {
  const digest = fc.constantFrom(a, b, 'c'.repeat(64))
  const directory = fc.constantFrom('', './', 'dist/', '/home/runner/', 'C:\\build\\', 'dist\\', `${name}/`)
  const base = fc.constantFrom(name, 'y.tar.gz', `${name}.sig`, `my-${name}`, 'X_PROV.tar.gz', '-')
  const entry = fc.record({
    digest,
    directory,
    base,
    form: fc.constantFrom('gnu', 'binary', 'bsd', 'openssl', 'prefixed', 'uppercase')
  })
  const write: Record<string, (digest: string, file: string) => string> = {
    gnu: (digest, file) => `${digest}  ${file}`,
    binary: (digest, file) => `${digest} *${file}`,
    bsd: (digest, file) => `SHA256 (${file}) = ${digest}`,
    openssl: (digest, file) => `SHA2-256(${file})= ${digest}`,
    prefixed: (digest, file) => `sha256:${digest}  ${file}`,
    uppercase: (digest, file) => `${digest.toUpperCase()}  ${file}`
  }
  let found = 0
  await holds(
    t,
    fc.asyncProperty(
      fc.array(entry, { maxLength: 8 }),
      fc.constantFrom('\n', '\r\n'),
      fc.boolean(),
      async (entries, newline, own) => {
        const content = entries.map(({ digest, directory, base, form }) => write[form]?.(digest, directory + base))
          .join(newline)
        const result = digestIn(Buffer.from(content), name, own)
        const of = (required: (directory: string) => boolean) =>
          new Set(
            entries.filter(({ base, directory }) => base === name && required(directory)).map(({ digest }) => digest)
          )
        const [exact, all] = [of(directory => directory === '' || directory === './'), of(() => true)]
        const alone = new Set(
          own
            ? entries.filter(({ base, directory }) => base === '-' && directory === '').map(({ digest }) => digest)
            : []
        )
        const [counted] = [exact, all, alone].filter(({ size }) => size > 0)
        const expected = counted?.size === 1 ? [...counted][0] : undefined
        if (expected !== undefined) found++
        if (result !== expected) throw new Error(`${String(result)} instead of ${String(expected)}\n${content}`)
      }
    ),
    { runs: 2000, seconds: 20 }
  )
  t.ok(found > 100)
})

const file = (name: string, content = name) => ({ name, content })

async function served (t: Test, releases: Array<{ tag: string, assets: Array<{ name: string, content: string }> }>) {
  const gitea = await createGiteaFake({ owner: { login: 'org' }, repositories: [{ name: 'x_prov', releases }] })
  t.teardown(gitea.close)
  const { app, get } = await startApp(t, { gitea: { url: gitea.url, organization: 'org' } })
  const versions = (await get('/api/v1/extensions/provider/x/versions')).json<ExtensionVersion[]>()
  return { gitea, app, checksums: Object.fromEntries(versions.map(({ version, checksum }) => [version, checksum])) }
}

await t.test('a list is found by its usual names, in any letter case', async t => {
  const names = [
    'SHA256SUMS',
    'SHA256SUMS.txt',
    'sha256sums.txt',
    'sha256sums',
    'sha256sum.txt',
    'checksums.txt',
    'CHECKSUMS.TXT',
    'x_1.7.0_checksums.txt',
    'x_prov_v1.8.0_checksums.txt',
    'x_prov_1.9.0_SHA256SUMS',
    'release.sha256sum',
    `${name}.sha256sum`,
    `${name}.SHA256`
  ]
  const releases = names.map((list, minor) => ({
    tag: `v1.${minor}.0`,
    assets: [file(name), file(list, `${b}  other.zip\n${a}  dist/${name}\n`)]
  }))
  const { checksums } = await served(t, releases)
  for (const [minor, list] of names.entries()) t.equal(checksums[`1.${minor}.0`], `sha256:${a}`, list)
})

await t.test('a list of another algorithm, version, extension or file is not read', async t => {
  const names = [
    'SHA512SUMS',
    'MD5SUMS',
    'sha512sums.txt',
    'x_9.9.9_checksums.txt',
    'y_1.4.0_checksums.txt',
    'other.zip.sha256',
    'other.zip.sha256sum'
  ]
  const releases = names.map((list, minor) => ({
    tag: `1.${minor}.0`,
    assets: [file(name), file('other.zip'), file(list, `${a}  ${name}\n`)]
  }))
  const { checksums, gitea, app } = await served(t, releases)
  for (const [minor, list] of names.entries()) t.equal(checksums[`1.${minor}.0`], undefined, list)
  t.equal(gitea.count(/^\/attachments\//), 0)
  t.strictSame(app.catalog.skipped().items.filter(({ kind }) => kind === 'checksum_file'), [])
})

await t.test('the checksum file of an asset has priority over lists, and a list is read when it has no matching ' +
  'entry', async t => {
  const list = file('SHA256SUMS', `${b}  ${name}`)
  const { checksums, app } = await served(t, [
    { tag: '1.0.0', assets: [file(name), list, file(`${name}.sha256`, a)] },
    { tag: '2.0.0', assets: [file(name), list, file(`${name}.sha256sum`, a)] },
    { tag: '3.0.0', assets: [file(name), file(`${name}.sha256sum`, b), file(`${name}.sha256`, a)] },
    { tag: '4.0.0', assets: [file(name), list, file(`${name}.sha256`, `${a}  other.zip`)] },
    { tag: '5.0.0', assets: [file(name), file('checksums.txt', `${a}  one/${name}\n${b}  two/${name}`)] }
  ])
  t.strictSame(checksums, {
    '1.0.0': `sha256:${a}`,
    '2.0.0': `sha256:${a}`,
    '3.0.0': `sha256:${a}`,
    '4.0.0': `sha256:${b}`,
    '5.0.0': undefined
  })
  matchStrictly(
    t,
    app.catalog.skipped().items.map(({ kind, reason, version, file }) => [kind, reason, version, file].join(' '))
      .sort(),
    [
      'checksum_file bad_checksum_file 4.0.0 x_prov.tar.gz.sha256',
      'checksum_file bad_checksum_file 5.0.0 checksums.txt'
    ],
    'a checksum file without a matching entry is reported'
  )
})
