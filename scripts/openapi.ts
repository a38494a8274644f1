import { writeFileSync } from 'node:fs'
import Fastify from 'fastify'
import registry from '../app.ts'

/** The OpenAPI document of the routes as they are, in YAML. No upstream is configured, so none is asked. */
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
