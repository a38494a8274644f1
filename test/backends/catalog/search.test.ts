import t from 'tap'
import { search, searchable } from '../../../backends/catalog/search.ts'
import type { Extension } from '../../../schemas/extension.ts'

const extension = (name: string, description = '', tags: string[] = []): Extension => ({
  name,
  type: 'taskserv',
  version: '1.0.0',
  description,
  source: 'oci',
  published_at: '2025-01-01T00:00:00Z',
  ...(tags.length > 0 && { tags })
})
const names = (query: string, ...extensions: Extension[]) =>
  search(extensions.map(searchable), query).map(({ name }) => name)

await t.test('better matches come first: name, prefix, word in the name, name, tag, word in the description, ' +
  'description', async t => {
  t.strictSame(names('kube',
    extension('h', 'about minikubes'),
    extension('g', 'the Kube thing'),
    extension('f', '', ['kubernetes']),
    extension('minikube'),
    extension('my-kube'),
    extension('kubelet'),
    extension('kube')
  ), ['kube', 'kubelet', 'my-kube', 'minikube', 'f', 'g', 'h'])
})

await t.test('equal matches keep the order of the list', async t => {
  t.strictSame(names('x', extension('ax'), extension('bx'), extension('cx')), ['ax', 'bx', 'cx'])
})

await t.test('search ignores case and surrounding blanks', async t => {
  t.strictSame(names('  KuBe ', extension('MyKUBE'), extension('other')), ['MyKUBE'])
})

await t.test('search finds all extensions that a plain substring search finds', async t => {
  t.strictSame(names('r, app', extension('web', 'Load balancer, app servers')), ['web'])
  t.strictSame(names('.*', extension('web', 'anything')), [], 'a query is not an expression')
  t.strictSame(names('ub', extension('h', 'ubub')), ['h'])
})

await t.test('a query does not match across a name, a tag and a description', async t => {
  const one = extension('aws', 'cloud', ['tag', 'other'])
  for (const query of ['aws\ntag', 'tag\nother', 'other\ncloud', 's\nt']) {
    t.strictSame(names(query, one), [], JSON.stringify(query))
  }
  t.strictSame(names('r\nc', extension('aws', 'or\nc', ['r', 'c'])), ['aws'])
})

await t.test('a word starts after a character that is neither a letter nor a digit in any script', async t => {
  t.strictSame(
    names(
      'mond',
      extension('a', 'übermond'),
      extension('b', 'über mond'),
      extension('c', 'Ümond'),
      extension('d', '9mond')
    ),
    ['b', 'a', 'c', 'd']
  )
})
