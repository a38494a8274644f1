import { Socket } from 'node:net'
import helmet, { type HelmetOptions } from 'helmet'
import type { ServerConfig } from '../schemas/config.ts'

export type SecurityHeadersOptions = Readonly<Pick<ServerConfig, 'public_url'>> & { cors_origins: readonly string[] }

/**
 * What helmet is to say. An answer of the API is no page: a browser that opens it as one loads nothing for it, shows it in no
 * frame, and tells nobody where it came from. What only pages need is left out; Swagger UI brings a policy of its own.
 */
export const helmetOptions = ({ public_url: publicUrl, cors_origins: origins }: SecurityHeadersOptions): HelmetOptions => ({
  contentSecurityPolicy: { useDefaults: false, directives: { 'default-src': ["'none'"], 'frame-ancestors': ["'none'"] } },
  // Open to pages as far as `cors_origins` is: a fetch is judged by that, and whatever asks without CORS by this.
  crossOriginResourcePolicy: { policy: origins.includes('*') ? 'cross-origin' : 'same-origin' },
  referrerPolicy: { policy: 'no-referrer' },
  xContentTypeOptions: true,
  // Only who is known to be reached by https may forbid http, and only for the host itself: it knows nothing of its siblings.
  strictTransportSecurity: publicUrl?.startsWith('https://') === true ? { maxAge: 31_536_000, includeSubDomains: false } : false,
  crossOriginEmbedderPolicy: false,
  crossOriginOpenerPolicy: false,
  originAgentCluster: false,
  xDnsPrefetchControl: false,
  xDownloadOptions: false,
  // Says what `frame-ancestors` says, to browsers that are gone.
  xFrameOptions: false,
  xPermittedCrossDomainPolicies: false,
  xPoweredBy: false,
  xXssProtection: false
})

/** The headers that helmet sets on an answer; they are the same on each. */
export function createSecurityHeaders (options: SecurityHeadersOptions): Record<string, string> {
  // An import of it would load, for each name that it has, what is behind that: a WebSocket client among it.
  const { IncomingMessage, ServerResponse } = process.getBuiltinModule('node:http')
  const request = new IncomingMessage(new Socket())
  const response = new ServerResponse(request)
  helmet(helmetOptions(options))(request, response, error => { if (error !== undefined) throw error })
  return Object.fromEntries(Object.entries(response.getHeaders()).map(([name, value]) => [name, String(value)]))
}

export type SecurityHeaders = ReturnType<typeof createSecurityHeaders>
