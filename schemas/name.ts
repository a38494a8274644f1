/**
 * Pattern, without anchors, of a part of a path: it has no separator and no escape, is not hidden, and is not internal
 * to a registry (`_trivy`).
 */
export const pathPart = '[A-Za-z0-9][A-Za-z0-9._-]*'

/** The pattern of an extension's name and of a directory in a tree of image layouts. */
export const namePattern = `^${pathPart}$`
/** Maximum length of an extension's name. */
export const maxNameLength = 128

const name = new RegExp(namePattern)

/** Whether text is one part of a path that is a name, of any length. */
export const isPathPart = (text: string): boolean => name.test(text)
/** Whether an extension may have this name. */
export const isExtensionName = (text: string): boolean => text.length <= maxNameLength && isPathPart(text)
