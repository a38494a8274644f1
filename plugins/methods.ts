import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import findMyWay from 'find-my-way'

/** Lists the methods of the routes that a path leads to. */
export interface Methods {
  /** Patterns of the routes of this scope, each once. */
  patterns: () => string[]
  /** Returns the methods that a request target is served for, in the order of Fastify; empty for an unknown path. */
  allowed: (target: string) => string[]
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The methods of the registry's own routes, for responses with status 405 (RFC 9110, section 15.5.6). */
    methods: Methods
  }
}

type Router = ReturnType<typeof findMyWay>

/**
 * Collects the routes of a scope. Paths are matched by the router that Fastify itself uses, with the host's options, so
 * that another spelling of a path leads to the same route. The router is made for the first request without a route.
 */
export function createMethods (fastify: FastifyInstance): Methods {
  const urls = new Set<string>()
  fastify.addHook('onRoute', ({ url }) => { urls.add(url) })

  function createRouter (): Router {
    const { maxParamLength, ...options } = fastify.initialConfig.routerOptions ?? {}
    const router = findMyWay({ ...options, maxParamLength: Number.MAX_SAFE_INTEGER })
    // Fastify does not report the second URL of a route `/` below a prefix, the one with a slash.
    for (const url of new Set([...urls].flatMap(url => /[/*]$/.test(url) ? [url] : [url, `${url}/`]))) {
      for (const method of fastify.supportedMethods) {
        // OPTIONS has routes for preflights only.
        if (method !== 'OPTIONS' && fastify.hasRoute({ method, url })) router.on(method as 'GET', url, () => {})
      }
    }
    return router
  }

  let router: Router | undefined
  return {
    patterns: () => [...urls],
    allowed (target) {
      const made = router ??= createRouter()
      return fastify.supportedMethods.filter(method => made.find(method as 'GET', target) !== null)
    }
  }
}

async function methods (fastify: FastifyInstance): Promise<void> {
  fastify.decorate('methods', createMethods(fastify))
}

export default fp(methods, { name: 'registry-methods', fastify: '5.x' })
