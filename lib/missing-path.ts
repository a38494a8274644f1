/**
 * Codes of file system errors that prove that a path does not exist. A loop of links and a name that is too long are
 * included.
 */
const missingCodes: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'])

/** Returns whether an error of the file system means that the path does not exist. */
export function isMissingPath (error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && missingCodes.has(error.code)
}
