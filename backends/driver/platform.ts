/** Platform that a file or an artifact is built for, in the spelling of the OCI image specification. */
export interface Platform {
  os: string
  architecture: string
  /** Absent for the usual variant of an architecture that has one: v8 of arm64, v1 of amd64. */
  variant?: string
}

/** Other names of operating systems. */
const systems: Readonly<Record<string, string>> = { macos: 'darwin', osx: 'darwin' }

/** Other names of architectures, with the variant that the name implies. */
const architectures: Readonly<Record<string, readonly [architecture: string, variant?: string]>> = {
  x86_64: ['amd64'],
  'x86-64': ['amd64'],
  x64: ['amd64'],
  aarch64: ['arm64'],
  i386: ['386'],
  i686: ['386'],
  x86: ['386'],
  armhf: ['arm', 'v7'],
  armv7: ['arm', 'v7'],
  armv7l: ['arm', 'v7'],
  armel: ['arm', 'v6'],
  armv6: ['arm', 'v6'],
  armv6l: ['arm', 'v6']
}

/** Variant of an architecture that needs no mention. */
const usualVariants: Readonly<Record<string, string>> = { amd64: 'v1', arm64: 'v8' }

function normalized (os: string, architecture: string, variant: string): Platform {
  const [system, machine, given] = [os, architecture, variant].map(text => text.trim().toLowerCase()) as [
    string,
    string,
    string
  ]
  const [known, implied = ''] = (Object.hasOwn(architectures, machine) ? architectures[machine] : undefined) ??
    [machine]
  const named = given === '' ? implied : /^\d/.test(given) ? `v${given}` : given
  const full = named === '' && known === 'arm' ? 'v7' : named
  return {
    os: (Object.hasOwn(systems, system) ? systems[system] : undefined) ?? system,
    architecture: known,
    ...(full !== '' && full !== usualVariants[known] && { variant: full })
  }
}

/**
 * Parses a configured platform such as `linux/arm64` or `linux/arm/v7`, of the form that the configuration's schema
 * checks. Other usual names mean the same: `x86_64` is `amd64`, `aarch64` is `arm64`, `macos` is `darwin`, `arm` is
 * `arm/v7`.
 */
export function parsePlatform (text: string): Platform {
  const [os = '', architecture = '', variant = ''] = text.split('/')
  return normalized(os, architecture, variant)
}

/** Reads the `platform` of a descriptor (image-spec, image-index.md). Returns undefined when it names no platform. */
export function platformOf (value: unknown): Platform | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { os, architecture, variant } = value as Record<string, unknown>
  if (typeof os !== 'string' || typeof architecture !== 'string' || os === '' || architecture === '') return undefined
  return normalized(os, architecture, typeof variant === 'string' || typeof variant === 'number' ? String(variant) : '')
}

/** Returns the text of a platform; equal platforms have equal texts. */
export const describePlatform = ({ os, architecture, variant }: Platform): string =>
  [os, architecture, ...(variant === undefined ? [] : [variant])].join('/')
