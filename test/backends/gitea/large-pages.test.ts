import t from 'tap'
import type { Extension } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake } from '../../fakes/gitea.ts'

// test/system/large-pages.ts has the pages of releases: each of its tests reads many times this size.
await t.test('a repository that is too large to read makes the list partial', async t => {
  const names = ['a', 'b', 'c']
  const gitea = await createGiteaFake({
    owner: { login: 'org' },
    repositories: names.map(name => ({
      name: `${name}_prov`,
      releases: [{ tag: '1.0.0' }],
      ...(name === 'b' && { description: 'n'.repeat(17_000_000) })
    }))
  })
  t.teardown(gitea.close)
  const { get } = await startApp(t, { gitea: { url: gitea.url, organization: 'org', timeout_seconds: 60 } })
  const response = await get('/api/v1/extensions')
  t.strictSame(response.json<Extension[]>().map(({ name }) => name), ['a', 'c'])
  t.equal(response.headers['x-partial'], 'gitea')
})
