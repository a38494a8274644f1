import type { ServerConfig } from '../schemas/config.ts'

export type SecurityHeadersOptions = Readonly<Pick<ServerConfig, 'public_url'>> & { cors_origins: readonly string[] }

/**
 * Returns the security headers of every response, in the order of helmet; a test compares the two. Headers that only
 * pages need are omitted. Swagger UI sets its own policy.
 */
export function createSecurityHeaders (options: SecurityHeadersOptions): Record<string, string> {
  const { public_url: publicUrl, cors_origins: origins } = options
  return {
    // An API response is not a page, so a browser that opens it must load nothing for it and show it in no frame.
    'content-security-policy': "default-src 'none';frame-ancestors 'none'",
    // Restricts requests without CORS to the same degree as `cors_origins` restricts requests with CORS.
    'cross-origin-resource-policy': origins.includes('*') ? 'cross-origin' : 'same-origin',
    'referrer-policy': 'no-referrer',
    // Forbids http only when https is configured, and only for this host, because its subdomains may belong to other
    // services.
    ...(publicUrl?.startsWith('https://') === true && { 'strict-transport-security': 'max-age=31536000' }),
    'x-content-type-options': 'nosniff'
  }
}

export type SecurityHeaders = ReturnType<typeof createSecurityHeaders>
