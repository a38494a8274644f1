import cors, { type FastifyCorsOptions } from '@fastify/cors'
import type { FastifyInstance, FastifyRequest, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import type { ServerConfig } from '../schemas/config.ts'
import { exposedHeaders } from '../schemas/responses.ts'
import { notFoundHandler } from './errors.ts'

export type CrossOriginOptions = Pick<ServerConfig, 'cors_origins'>

/** Headers that a script may send; others need no question, or none of them means anything here. */
const requestHeaders = [
  'Cache-Control',
  'Content-Type',
  'If-Match',
  'If-None-Match',
  'If-Range',
  'If-Unmodified-Since',
  'Range',
  'Traceparent',
  'Tracestate',
  'X-Request-Id'
]
/** Seconds that a browser may remember the answer to a preflight; each has a bound of its own below that. */
const preflightAge = 86_400

/** What scripts of other origins may do: read, without credentials, and see every header that is documented. */
export const createCrossOrigin = ({ cors_origins: origins }: CrossOriginOptions): FastifyCorsOptions => ({
  // A list makes the answer depend on who asks, and say so in `Vary`.
  origin: origins.includes('*') ? '*' : origins,
  methods: ['GET', 'HEAD'],
  allowedHeaders: requestHeaders,
  exposedHeaders: exposedHeaders.join(', '),
  credentials: false,
  maxAge: preflightAge
})
export type CrossOrigin = ReturnType<typeof createCrossOrigin>

const isPreflight = ({ headers }: FastifyRequest): boolean =>
  headers.origin !== undefined && headers['access-control-request-method'] !== undefined

/** Whether the host has a policy of its own: @fastify/cors above this scope, or a route for every OPTIONS. */
const isHosts = (fastify: FastifyInstance) => fastify.hasRequestDecorator('corsPreflightEnabled') ||
  (fastify.prefix === '' && fastify.hasRoute({ method: 'OPTIONS', url: '*' }))

/**
 * Returns the hook of @fastify/cors alone. Its route for OPTIONS, a wildcard directly behind the prefix, would match
 * paths that only begin like it, which are the host's.
 */
function corsHook (policy: FastifyCorsOptions): onRequestHookHandler {
  let hook: onRequestHookHandler | undefined
  const collector = {
    decorateRequest () {},
    options () {},
    addHook (_name: 'onRequest', handler: onRequestHookHandler) {
      hook = handler
    }
  }
  cors(collector as unknown as FastifyInstance, policy, error => {
    if (error !== undefined) throw error
  })
  if (hook === undefined) throw new Error('@fastify/cors adds no hook')
  return hook
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Responds to preflights; undefined where CORS is turned off or the host has a policy of its own. */
    preflight: onRequestHookHandler | undefined
  }
}

/**
 * CORS for the responses of the scope. Where the host has a policy of its own that one holds: this one could only
 * loosen it.
 */
async function crossOrigin (fastify: FastifyInstance, options: CrossOriginOptions): Promise<void> {
  const policy = options.cors_origins.length === 0 || isHosts(fastify) ? undefined : createCrossOrigin(options)
  fastify.decorate('preflight', policy && corsHook(policy))
  if (policy === undefined) return
  if (policy.origin === '*') {
    // These are alike on every response, errors without a route included.
    Object.assign(fastify.commonHeaders, {
      'access-control-allow-origin': '*',
      'access-control-expose-headers': policy.exposedHeaders
    })
    return
  }
  fastify.addHook('onRequest', corsHook({ ...policy, preflight: false }))
}

/**
 * Routes for preflights, one for each path of the registry, so that every other path stays the host's. Has to be
 * registered after all routes. An OPTIONS request that is not a preflight gets what any other method gets that a path
 * is not served for.
 */
export async function preflights (fastify: FastifyInstance): Promise<void> {
  const { preflight, methods } = fastify
  if (preflight === undefined) return
  for (const url of methods.patterns()) {
    if (fastify.hasRoute({ method: 'OPTIONS', url })) continue
    fastify.route({
      method: 'OPTIONS',
      url: url.slice(fastify.prefix.length),
      schema: { hide: true },
      onRequest (request, reply, done) {
        if (isPreflight(request)) preflight.call(this, request, reply, done)
        else notFoundHandler(request, reply)
      },
      handler: notFoundHandler
    })
  }
}

export default fp(crossOrigin, {
  name: 'registry-cross-origin',
  fastify: '5.x',
  dependencies: ['registry-errors', 'registry-methods', 'registry-security-headers'],
  decorators: { fastify: ['commonHeaders', 'methods'] }
})
