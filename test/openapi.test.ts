import { readFileSync } from 'node:fs'
import t from 'tap'
import { errorTable } from '../lib/errors.ts'
import { ErrorResponse } from '../schemas/error.ts'
import { openapiDocument } from '../scripts/openapi.ts'
import { startApp } from './fakes/app.ts'

interface Operation {
  operationId?: string
  summary?: string
  tags?: string[]
  parameters?: Array<{ name: string, in: string, required: boolean }>
  responses: Record<string, { $ref?: string, headers?: Record<string, unknown> }>
}
interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, unknown>, responses: Record<string, unknown> }
}

await t.test('openapi.yaml equals the document generated from the routes (npm run openapi)', async t => {
  t.equal(readFileSync(new URL('../openapi.yaml', import.meta.url), 'utf8'), await openapiDocument())
})

await t.test('the document contains the operations and schemas of the contract', async t => {
  const { get } = await startApp(t, {})
  const { paths, components } = (await get('/openapi.json')).json<Document>()
  t.strictSame(Object.keys(paths).sort(), [
    '/api/v1/cache/stats',
    '/api/v1/extensions',
    '/api/v1/extensions/search',
    '/api/v1/extensions/{type}/{name}',
    '/api/v1/extensions/{type}/{name}/versions',
    '/api/v1/extensions/{type}/{name}/{version}',
    '/api/v1/health',
    '/api/v1/metrics',
    '/health',
    '/livez',
    '/metrics',
    '/readyz'
  ])
  for (
    const name of [
      'Extension',
      'ExtensionType',
      'ExtensionSource',
      'ExtensionVersion',
      'HealthResponse',
      'BackendHealth',
      'BackendStatus',
      'ErrorResponse'
    ]
  ) t.ok(components.schemas[name], name)

  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation }))
  )
  t.equal(
    new Set(operations.map(({ operation }) => operation.operationId)).size,
    operations.length,
    'every operation has a unique id'
  )
  t.equal(
    paths['/api/v1/extensions/{type}/{name}/{version}']?.['head']?.operationId,
    'headExtension',
    'HEAD is documented too'
  )
  for (const { path, method, operation } of operations) {
    t.match(operation.operationId, /^[A-Za-z]+$/, 'the id is a valid method name of a client')
    t.ok(
      operation.operationId !== undefined && operation.summary !== undefined && operation.tags?.length === 1,
      `${method} ${path}`
    )
    for (const [status, { $ref }] of Object.entries(operation.responses)) {
      if (Number(status) >= 400) t.equal($ref, `#/components/responses/Error${status}`, `${path} ${status}`)
    }
  }
  const required = operations.flatMap(({ path, operation }) =>
    (operation.parameters ?? []).filter(parameter => parameter.in === 'query' && parameter.required).map(({ name }) =>
      `${path} ${name}`
    )
  )
  t.strictSame(required, ['/api/v1/extensions/search q'], 'parameters with a default are optional')
})

await t.test('every response header is documented', async t => {
  const { get } = await startApp(t, {
    server: { public_url: 'http://localhost' },
    oci: { registry: 'examples/registry' }
  })
  const { paths } = (await get('/openapi.json')).json<Document>()
  const undocumented = new Set(['content-type', 'content-length', 'date', 'connection', 'transfer-encoding'])
  const cases: Array<[string, string, number]> = [
    ['/api/v1/extensions?limit=2', '/api/v1/extensions', 200],
    ['/api/v1/extensions/search?q=aws', '/api/v1/extensions/search', 200],
    ['/api/v1/extensions/provider/aws', '/api/v1/extensions/{type}/{name}', 200],
    ['/api/v1/extensions/provider/aws/versions', '/api/v1/extensions/{type}/{name}/versions', 200],
    ['/api/v1/extensions/provider/aws/1.2.0', '/api/v1/extensions/{type}/{name}/{version}', 200],
    ['/api/v1/extensions/provider/aws/latest', '/api/v1/extensions/{type}/{name}/{version}', 302],
    ['/api/v1/health', '/api/v1/health', 200],
    ['/livez', '/livez', 200],
    ['/api/v1/metrics', '/api/v1/metrics', 200],
    ['/api/v1/cache/stats', '/api/v1/cache/stats', 200]
  ]
  for (const [url, path, status] of cases) {
    const response = await get(url)
    t.equal(response.statusCode, status, url)
    const documented = Object.keys(paths[path]?.['get']?.responses[status]?.headers ?? {}).map(name =>
      name.toLowerCase()
    )
    t.strictSame(
      Object.keys(response.headers).filter(name => !undocumented.has(name) && !documented.includes(name)),
      [],
      url
    )
  }
})

await t.test('every error type is documented in the description of the error schema', async t => {
  const { description } = ErrorResponse.properties.error
  for (const type of Object.keys(errorTable)) t.match(description, `\`${type}\``, type)
})
