import got, { type Got, type RetryFunction } from 'got'
import type { createAgents } from './agents.ts'

/** Maximum number of retries of one request. */
const maxRetries = 2

export interface HttpClientOptions {
  userAgent: string
  agents: ReturnType<typeof createAgents>
  /** Maximum time in milliseconds for each phase up to the headers of the response. */
  timeoutMs: number
  verifySsl: boolean
  retryDelay: RetryFunction
}

/** Creates the got client of one instance. HTTP is not configured anywhere else. */
export function createHttpClient ({ userAgent, agents, timeoutMs, verifySsl, retryDelay }: HttpClientOptions): Got {
  return got.extend({
    headers: { 'user-agent': userAgent },
    followRedirect: false,
    throwHttpErrors: false,
    timeout: { lookup: timeoutMs, connect: timeoutMs, secureConnect: timeoutMs, response: timeoutMs },
    https: { rejectUnauthorized: verifySsl },
    hooks: {
      // Agents are chosen before each attempt, because the file of certificates may have changed since the previous
      // one.
      beforeRequest: [async request => {
        if (request.url !== undefined) request.agent = await agents.of(new URL(request.url))
      }]
    },
    retry: { limit: maxRetries, methods: ['GET', 'HEAD'], calculateDelay: retryDelay }
  })
}
