import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import Fastify, { type RouteOptions } from 'fastify'
import t from 'tap'
import { serverOptions } from '../../app.ts'
import { whole } from '../fakes/app.ts'

// A serializer is made when it is first used: that it can be is not told by the start.
await t.test('the serializer of every answer can be made', async t => {
  const app = Fastify(serverOptions({ log: { level: 'silent' } }))
  t.teardown(async () => { await app.close() })
  const routes: RouteOptions[] = []
  app.addHook('onRoute', route => { routes.push(route) })
  await app.register(whole, { config: { oci: { registry: 'examples/registry' } } })
  await app.ready()
  const serializer = SerializerSelector()(app.getSchemas())
  let made = 0
  for (const { url, method, schema } of routes) {
    for (const [httpStatus, answer] of Object.entries(schema?.response ?? {})) {
      const parts = 'content' in answer
        ? Object.values(answer.content as Record<string, { schema: unknown }>).map(part => part.schema)
        : [answer]
      for (const part of parts) {
        t.doesNotThrow(
          () => serializer({ schema: part, method: String(method), url, httpStatus }),
          `${String(method)} ${url} ${httpStatus}`
        )
      }
      made++
    }
  }
  t.ok(made > 40, 'answers were found')
})

await t.test('an answer of a host that refers to what is not there fails at the start', async t => {
  const app = Fastify(serverOptions({ log: { level: 'silent' } }))
  t.teardown(async () => { await app.close() })
  await app.register(whole, { config: { oci: { registry: 'examples/registry' } } })
  app.get('/own', { schema: { response: { 200: { $ref: 'nothere#' } } } }, () => ({}))
  await t.rejects(async () => { await app.ready() }, { code: 'FST_ERR_SCH_SERIALIZATION_BUILD' })
})
