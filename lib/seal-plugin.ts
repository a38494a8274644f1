import type { FastifyPluginAsync, FastifyPluginOptions } from 'fastify'

/** The properties that fastify-plugin writes to the function that it receives; Fastify reads them at registration. */
const written = ['skip-override', 'fastify.display-name', 'plugin-meta'].map(name => Symbol.for(name))

/** Returns a new function that does what `plugin` does, without its properties. */
function copyOf<O extends FastifyPluginOptions> (plugin: FastifyPluginAsync<O>): FastifyPluginAsync<O> {
  const copy: FastifyPluginAsync<O> = async (fastify, options) => { await plugin(fastify, options) }
  return Object.defineProperty(copy, 'name', { value: plugin.name })
}

/**
 * Freezes an exported plugin, which all importers in the process share. fastify-plugin uses the property `default` of
 * the function that it receives, if there is one: here each read of it returns a new function, so `fp(plugin)` returns
 * a copy of its own and leaves the export as it is. Every other write to the export throws a TypeError with the remedy.
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
