import type { FastifyPluginAsync, FastifyPluginOptions } from 'fastify'

/** Properties that fastify-plugin sets on the function that it receives. Fastify reads them at registration. */
const written = ['skip-override', 'fastify.display-name', 'plugin-meta'].map(name => Symbol.for(name))

/** Returns a new function that calls `plugin` but does not have its properties. */
function copyOf<O extends FastifyPluginOptions> (plugin: FastifyPluginAsync<O>): FastifyPluginAsync<O> {
  const copy: FastifyPluginAsync<O> = async (fastify, options) => { await plugin(fastify, options) }
  return Object.defineProperty(copy, 'name', { value: plugin.name })
}

/**
 * Freezes an exported plugin, which all importers in the process share. If the function has a property `default`,
 * fastify-plugin uses its value. Each read of this property returns a new function, so `fp(plugin)` returns a copy and
 * does not change the export. Every other write to the export throws a TypeError with the remedy.
 */
export function sealPlugin<O extends FastifyPluginOptions> (plugin: FastifyPluginAsync<O>): FastifyPluginAsync<O> {
  for (const symbol of written) {
    const value: unknown = Reflect.get(plugin, symbol)
    Object.defineProperty(plugin, symbol, {
      get: () => value,
      set () {
        throw new TypeError(
          'The exported plugin cannot be changed, since other hosts share it: register extension-registry/global, or ' +
            'use fp() on the plugin itself'
        )
      }
    })
  }
  Object.defineProperty(plugin, 'default', { get: () => copyOf(plugin) })
  return Object.freeze(plugin)
}
