import { Value } from '@sinclair/typebox/value'
import { parseJson } from '../../lib/json.ts'
import { ImageConfig, type Descriptor } from '../../schemas/oci.ts'
import type { ExtensionType } from '../../schemas/extension.ts'
import type { Metadata } from '../driver/driver.ts'
import { maxDescription, maxTags, maxText, plainTags, plainText } from '../driver/text.ts'
import { utcSeconds } from '../driver/version.ts'
import { baseType, imageConfigTypes } from './media-types.ts'
import { maxManifestBytes } from './transport.ts'

const prefix = 'org.opencontainers.image.'
const keywords = 'io.artifacthub.keywords'

const maxUrl = 2048

/** Publication time of an artifact whose publisher does not state it. */
const unknownTime = '1970-01-01T00:00:00Z'

/** Returns the value of an annotation from the first source that has a usable one. */
function annotation<T> (
  sources: readonly unknown[],
  key: string,
  read: (value: unknown) => T | undefined
): T | undefined {
  for (const source of sources) {
    if (typeof source !== 'object' || source === null || !Object.hasOwn(source, key)) continue
    const value = read((source as Record<string, unknown>)[key])
    if (value !== undefined) return value
  }
  return undefined
}

/** Returns an http or https address without its user information; undefined for any other value. */
function webAddress (value: unknown): string | undefined {
  if (typeof value !== 'string' || value.length > maxUrl) return undefined
  const url = URL.parse(value.trim())
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) return undefined
  url.username = ''
  url.password = ''
  return url.href
}

/**
 * Returns a time of RFC 3339; `Date` alone would read a lone number as a year. Builds without a time write 1970-01-01
 * or earlier, which is ignored.
 */
function publicationTime (value: unknown): string | undefined {
  if (
    typeof value !== 'string' ||
    !/^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,12})?(?:[Zz]|[+-]\d\d:\d\d)$/.test(value)
  ) return undefined
  const time = utcSeconds(value.toUpperCase().replace(' ', 'T'))
  return time === undefined || time <= unknownTime ? undefined : time
}

function tagsOf (value: unknown): string[] | undefined {
  return typeof value === 'string' ? plainTags(value.slice(0, maxTags * maxText).split(',')) : undefined
}

/**
 * Returns the metadata of an extension by annotations; nearer sources count first. Fields that they lack are absent.
 */
export function metadataOf (
  annotations: readonly unknown[],
  { type, name }: { type: ExtensionType, name: string }
): Metadata {
  const text = (key: string, maxLength?: number) =>
    annotation(annotations, `${prefix}${key}`, value => plainText(value, maxLength))
  const author = text('vendor') ?? text('authors')
  const repository = annotation(annotations, `${prefix}source`, webAddress) ??
    annotation(annotations, `${prefix}url`, webAddress)
  const tags = annotation(annotations, keywords, tagsOf)
  return {
    name,
    type,
    description: text('description', maxDescription) ?? text('title') ?? '',
    ...(author !== undefined && { author }),
    ...(repository !== undefined && { repository }),
    ...(tags !== undefined && { tags })
  }
}

/** Returns whether a config may have the time of its image, and is small enough to be read. */
export function hasTime (config: Descriptor | undefined): config is Descriptor {
  return config !== undefined && imageConfigTypes.has(baseType(config.mediaType)) && config.size <= maxManifestBytes
}

/**
 * Returns when an artifact was published: by the nearest annotation, else by its config, else {@link unknownTime}.
 * `readConfig` returns the bytes of the config, and is called only when no annotation has the time.
 */
export async function publishedAt (
  annotations: readonly unknown[],
  readConfig: () => Promise<Buffer | undefined>
): Promise<string> {
  const described = annotation(annotations, `${prefix}created`, publicationTime)
  if (described !== undefined) return described
  const bytes = await readConfig()
  try {
    const config: unknown = bytes === undefined ? undefined : parseJson(bytes)
    return (Value.Check(ImageConfig, config) ? publicationTime(config.created) : undefined) ?? unknownTime
  } catch (error) {
    if (error instanceof SyntaxError) return unknownTime
    throw error
  }
}
