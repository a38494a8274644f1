import type { FastifyReply } from 'fastify'
import fresh from 'fresh'

/** Whether the client already has what `etag` names (RFC 9110 section 13.1.2). */
export function notModified (reply: FastifyReply, etag: string): boolean {
  const { method, headers } = reply.request
  // `no-cache` speaks to caches on the way, and comes with every conditional `fetch`: the condition holds all the same.
  return (method === 'GET' || method === 'HEAD') && fresh({ 'if-none-match': headers['if-none-match'] }, { etag })
}
