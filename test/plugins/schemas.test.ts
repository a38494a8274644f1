import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import Fastify, { type RouteOptions } from 'fastify'
import t from 'tap'
import { serverOptions } from '../../app.ts'
import { whole } from '../fakes/app.ts'

await t.test('serializers are made when they are first used, and all of them can be', async t => {
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
      const parts = 'content' in answer ? Object.values(answer.content as Record<string, { schema: unknown }>).map(part => part.schema) : [answer]
      for (const part of parts) t.doesNotThrow(() => serializer({ schema: part, method: String(method), url, httpStatus }), `${String(method)} ${url} ${httpStatus}`)
      made++
    }
  }
  t.ok(made > 40, 'answers were found')
})
