import Fastify, { type FastifyBaseLogger } from 'fastify'

/** Creates a logger like that of the server, and keeps its lines. */
export function createLog (level = 'info'): { log: FastifyBaseLogger, lines: string[] } {
  const lines: string[] = []
  return { log: Fastify({ logger: { level, stream: { write: line => { lines.push(line) } } } }).log, lines }
}
