/**
 * Pattern of a part of a path, without anchors. It excludes separators, escapes, hidden names, and names that are
 * internal to a registry (`_trivy`).
 */
export const pathPart = '[A-Za-z0-9][A-Za-z0-9._-]*'

/** Pattern of the name of an extension, and of a directory in a tree of image layouts. */
export const namePattern = `^${pathPart}$`
/** Maximum length of the name of an extension, in characters. */
export const maxNameLength = 128

const name = new RegExp(namePattern)

/** Returns whether a text of any length is a valid part of a path. */
export const isPathPart = (text: string): boolean => name.test(text)
/** Returns whether an extension may have this name. */
export const isExtensionName = (text: string): boolean => text.length <= maxNameLength && isPathPart(text)
