/**
 * Codes of the errors of the file system that prove that nothing is at a path. A loop of links and a name that is too
 * long lead to nothing either.
 */
const missingCodes: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'])

/** Returns whether an error of the file system means that nothing is at the path. */
export function isMissingPath (error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && missingCodes.has(error.code)
}
