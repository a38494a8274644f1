import Fastify, { type FastifyInstance, type FastifyPluginAsync, type FastifyPluginCallback } from 'fastify'

/**
 * A server that never listens, for a plugin of which only what it decorates is wanted: in the registry's own scope that would
 * collide with, or be taken from, a host that has registered the same plugin.
 */
export async function privateServer<O extends object> (plugin: FastifyPluginAsync<O> | FastifyPluginCallback<O>, options: O): Promise<FastifyInstance> {
  const server = Fastify()
  await server.register(plugin as FastifyPluginAsync<O>, options)
  return server
}
