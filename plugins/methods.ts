import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import findMyWay from 'find-my-way'

/** Methods of the routes that match a path. */
export interface Methods {
  /** Returns the patterns of the routes of this scope, without duplicates. */
  patterns: () => string[]
  /** Returns the methods of a request target in the order of Fastify; empty for an unknown path. */
  allowed: (target: string) => string[]
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Methods of the registry's own routes, for responses with status 405 (RFC 9110, section 15.5.6). */
    methods: Methods
  }
}

type Router = ReturnType<typeof findMyWay>

/**
 * Collects the routes of a scope. Paths are matched by Fastify's own router with the host's options, so that each
 * spelling of a path leads to the same route. The router is created for the first request without a route.
 */
export function createMethods (fastify: FastifyInstance): Methods {
  const urls = new Set<string>()
  fastify.addHook('onRoute', ({ url }) => { urls.add(url) })

  function createRouter (): Router {
    const { maxParamLength, ...options } = fastify.initialConfig.routerOptions ?? {}
    const router = findMyWay({ ...options, maxParamLength: Number.MAX_SAFE_INTEGER })
    // Fastify does not report the second URL of a route `/` below a prefix, which ends with a slash.
    for (const url of new Set([...urls].flatMap(url => /[/*]$/.test(url) ? [url] : [url, `${url}/`]))) {
      for (const method of fastify.supportedMethods) {
        // Routes for OPTIONS exist only for preflights.
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
