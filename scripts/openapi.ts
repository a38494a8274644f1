import { writeFileSync } from 'node:fs'
import Fastify from 'fastify'
import registry from '../app.ts'

/** Returns the OpenAPI document of the routes in YAML. Without a configured upstream, no request is sent. */
export async function openapiDocument (): Promise<string> {
  const app = Fastify()
  await app.register(async scope => {
    await registry(scope, { config: {} })
    app.decorate('document', () => scope.openapiDocument.yaml())
  })
  await app.ready()
  const document = app.getDecorator<() => string>('document')()
  await app.close()
  return document
}

if (import.meta.main) writeFileSync(new URL('../openapi.yaml', import.meta.url), await openapiDocument())
