import t from 'tap'
import { createMapping } from '../../../backends/driver/mapping.ts'
import { matchStrictly } from '../../fakes/match.ts'

const gitea = createMapping({
  provider: ['{name}_prov', '{name}_provider'],
  taskserv: ['{name}_taskserv'],
  cluster: ['{name}_cluster']
})
const oci = createMapping({
  provider: ['provider/{name}', 'providers/{name}', '{name}_prov', '{name}-prov'],
  taskserv: ['taskserv/{name}', '{name}-taskserv'],
  cluster: ['cluster/{name}']
})

await t.test('the name of a repository decides about its type and extension, and other names are ignored', async t => {
  matchStrictly(t, gitea.identify('aws_prov'), { type: 'provider', name: 'aws' })
  matchStrictly(t, gitea.identify('upcloud_provider'), { type: 'provider', name: 'upcloud' })
  matchStrictly(t, gitea.identify('my.k3s_taskserv'), { type: 'taskserv', name: 'my.k3s' })
  for (const other of ['website', '_prov', 'prov', '-x_prov', `${'x'.repeat(129)}_prov`, 'a b_prov']) {
    t.equal(gitea.identify(other), undefined, other)
  }
  matchStrictly(t, oci.identify('provider/aws'), { type: 'provider', name: 'aws' })
  matchStrictly(t, oci.identify('aws-prov'), { type: 'provider', name: 'aws' })
  for (const other of ['provider/aws/deep', 'provider/', 'other/aws_prov']) {
    t.equal(oci.identify(other), undefined, other)
  }
})

await t.test('the path form has priority over the suffix', async t => {
  const [path, suffix] = [oci.identify('provider/aws')?.rank ?? 99, oci.identify('aws_prov')?.rank ?? 0]
  t.ok(path < suffix)
})

await t.test('the possible repositories of an extension are returned in order', async t => {
  t.strictSame(gitea.repositories('provider', 'aws'), ['aws_prov', 'aws_provider'])
  t.strictSame(oci.repositories('taskserv', 'k3s'), ['taskserv/k3s', 'k3s-taskserv'])
})
