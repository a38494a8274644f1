import cors, { type FastifyCorsOptions } from '@fastify/cors'
import type { FastifyInstance, FastifyRequest, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import type { ServerConfig } from '../schemas/config.ts'
import { notFoundHandler } from './errors.ts'

export type CrossOriginOptions = Pick<ServerConfig, 'cors_origins'>

/** Request headers that a script may send. Other headers are either always allowed or have no meaning here. */
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
/** Maximum seconds for which a browser caches the response to a preflight; browsers apply lower limits of their own. */
const preflightAge = 86_400

/**
 * Creates the options of CORS: scripts of other origins may read without credentials, and can read all headers.
 */
export const createCrossOrigin = ({ cors_origins: origins }: CrossOriginOptions): FastifyCorsOptions => ({
  // With a list, the response depends on the `Origin` of the request, so that `Vary` is sent.
  origin: origins.includes('*') ? '*' : origins,
  methods: ['GET', 'HEAD'],
  allowedHeaders: requestHeaders,
  // The names of all headers would be a quarter of the bytes of a head (docs/decisions/015-headers-of-a-response.md).
  exposedHeaders: '*',
  credentials: false,
  maxAge: preflightAge
})
export type CrossOrigin = ReturnType<typeof createCrossOrigin>

const isPreflight = ({ headers }: FastifyRequest): boolean =>
  headers.origin !== undefined && headers['access-control-request-method'] !== undefined

/** Returns whether the host has its own CORS policy: @fastify/cors above this scope, or a route for every OPTIONS. */
const isHosts = (fastify: FastifyInstance) => fastify.hasRequestDecorator('corsPreflightEnabled') ||
  (fastify.prefix === '' && fastify.hasRoute({ method: 'OPTIONS', url: '*' }))

/**
 * Returns only the hook of @fastify/cors. Its wildcard route for OPTIONS would also match paths of the host that begin
 * with the prefix.
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
    /** Responds to preflights; undefined when CORS is turned off or the host has its own policy. */
    preflight: onRequestHookHandler | undefined
  }
}

/**
 * Adds CORS headers to the responses of the scope. A policy of the host takes precedence, because this one could only
 * make it less strict.
 */
async function crossOrigin (fastify: FastifyInstance, options: CrossOriginOptions): Promise<void> {
  const policy = options.cors_origins.length === 0 || isHosts(fastify) ? undefined : createCrossOrigin(options)
  fastify.decorate('preflight', policy && corsHook(policy))
  if (policy === undefined) return
  if (policy.origin === '*') {
    // These headers are equal for every response, including errors without a route.
    Object.assign(fastify.commonHeaders, {
      'access-control-allow-origin': '*',
      'access-control-expose-headers': policy.exposedHeaders
    })
    return
  }
  fastify.addHook('onRequest', corsHook({ ...policy, preflight: false }))
}

/**
 * Adds a preflight route for each path of the registry, so that all other paths stay with the host. It must be
 * registered after all routes. Any other OPTIONS request gets the response of a method that the path does not support.
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
