import cors, { type FastifyCorsOptions } from '@fastify/cors'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { ServerConfig } from '../schemas/config.ts'
import { exposedHeaders } from '../schemas/responses.ts'
import { notFoundHandler } from './errors.ts'

export type CrossOriginOptions = Pick<ServerConfig, 'cors_origins'>

/** Headers that a script may send; others need no question, or none of them means anything here. */
const requestHeaders = ['Cache-Control', 'Content-Type', 'If-None-Match', 'Range', 'Traceparent', 'Tracestate', 'X-Request-Id']
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

const isPreflight = ({ headers }: FastifyRequest): boolean => headers.origin !== undefined && headers['access-control-request-method'] !== undefined

/** Whether the host answers browsers itself: @fastify/cors above this scope, or a route of its own for every OPTIONS. */
const isHosts = (fastify: FastifyInstance) => fastify.hasRequestDecorator('corsPreflightEnabled') ||
  (fastify.prefix === '' && fastify.hasRoute({ method: 'OPTIONS', url: '*' }))

/** CORS for the scope. Where the host has a policy of its own that one holds: ours could only loosen it. */
async function crossOrigin (fastify: FastifyInstance, options: CrossOriginOptions): Promise<void> {
  if (options.cors_origins.length === 0 || isHosts(fastify)) return
  const policy = createCrossOrigin(options)
  fastify.addHook('onRequest', (request, reply, done) => {
    // An OPTIONS that is no preflight asks for a route that is not there.
    if (request.method === 'OPTIONS' && !isPreflight(request) && request.routeOptions.url?.endsWith('*') === true) notFoundHandler(request, reply)
    else done()
  })
  if (policy.origin !== '*') {
    await fastify.register(cors, policy)
    return
  }
  // What every answer says alike stands with the other headers that do; the plugin is left what needs it: to answer preflights.
  Object.assign(fastify.commonHeaders, { 'access-control-allow-origin': '*', 'access-control-expose-headers': policy.exposedHeaders })
  await fastify.register(async scope => { await scope.register(cors, policy) })
}

export default fp(crossOrigin, { name: 'registry-cross-origin', fastify: '5.x', dependencies: ['registry-errors', 'registry-security-headers'], decorators: { fastify: ['commonHeaders'] } })
