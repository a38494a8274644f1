import Fastify, { type FastifyBaseLogger } from 'fastify'

/** A logger as the server has it, whose lines are kept. */
export function createLog (level = 'info'): { log: FastifyBaseLogger, lines: string[] } {
  const lines: string[] = []
  return { log: Fastify({ logger: { level, stream: { write: line => { lines.push(line) } } } }).log, lines }
}
