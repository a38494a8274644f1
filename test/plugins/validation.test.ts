import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import { Type } from '@sinclair/typebox'
import Fastify, { type RouteOptions } from 'fastify'
import t from 'tap'
import { serverOptions } from '../../app.ts'
import errors from '../../plugins/errors.ts'
import schemas from '../../plugins/validation.ts'
import { withError } from '../../schemas/parameter-error.ts'
import { whole } from '../fakes/app.ts'

// A serializer is created at its first use, so the start does not prove that it can be created.
await t.test('the serializer of every response schema can be created', async t => {
  const app = Fastify(serverOptions({ log: { level: 'silent' } }))
  t.teardown(async () => { await app.close() })
  const routes: RouteOptions[] = []
  app.addHook('onRoute', route => { routes.push(route) })
  await app.register(whole, { config: { oci: { registry: 'examples/registry' } } })
  await app.ready()
  const serializer = SerializerSelector()(app.getSchemas())
  let made = 0
  for (const { url, method, schema } of routes) {
    for (const [httpStatus, response] of Object.entries(schema?.response ?? {})) {
      const parts = 'content' in response
        ? Object.values(response.content as Record<string, { schema: unknown }>).map(part => part.schema)
        : [response]
      for (const part of parts) {
        t.doesNotThrow(
          () => serializer({ schema: part, method: String(method), url, httpStatus }),
          `${String(method)} ${url} ${httpStatus}`
        )
      }
      made++
    }
  }
  t.ok(made > 40, 'there are response schemas')
})

await t.test('a response schema of a host with an unknown reference fails at the start', async t => {
  const app = Fastify(serverOptions({ log: { level: 'silent' } }))
  t.teardown(async () => { await app.close() })
  await app.register(whole, { config: { oci: { registry: 'examples/registry' } } })
  app.get('/own', { schema: { response: { 200: { $ref: 'nothere#' } } } }, () => ({}))
  await t.rejects(async () => { await app.ready() }, { code: 'FST_ERR_SCH_SERIALIZATION_BUILD' })
})

await t.test('parameters with equal schemas and different errors have each their own error', async t => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(schemas)
  await app.register(errors)
  for (const code of ['invalid_type', 'invalid_version'] as const) {
    const params = Type.Object({ value: withError(Type.String({ pattern: '^a$' }), { code, message: code }) })
    app.get(`/${code}/:value`, { schema: { params } }, () => ({}))
  }
  for (const code of ['invalid_type', 'invalid_version']) {
    t.strictSame((await app.inject(`/${code}/b`)).json(), { error: code, message: code })
    t.equal((await app.inject(`/${code}/a`)).statusCode, 200)
  }
})
