import type { ServerConfig } from '../schemas/config.ts'

export type SecurityHeadersOptions = Readonly<Pick<ServerConfig, 'public_url'>> & { cors_origins: readonly string[] }

/**
 * Returns the security headers of every response, in the order of helmet, with which a test compares them. Headers that
 * only pages need are omitted; Swagger UI sets a policy of its own.
 */
export function createSecurityHeaders (options: SecurityHeadersOptions): Record<string, string> {
  const { public_url: publicUrl, cors_origins: origins } = options
  return {
    // A response of the API is not a page: a browser that opens it loads nothing for it and shows it in no frame.
    'content-security-policy': "default-src 'none';frame-ancestors 'none'",
    // Restricts requests without CORS; it is as open as `cors_origins`, which restricts the others.
    'cross-origin-resource-policy': origins.includes('*') ? 'cross-origin' : 'same-origin',
    'referrer-policy': 'no-referrer',
    // Forbids http only where https is configured, and only for this host: its subdomains may belong to other services.
    ...(publicUrl?.startsWith('https://') === true && { 'strict-transport-security': 'max-age=31536000' }),
    'x-content-type-options': 'nosniff'
  }
}

export type SecurityHeaders = ReturnType<typeof createSecurityHeaders>
