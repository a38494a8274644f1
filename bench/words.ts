import { extensionTypes, type ExtensionType } from '../schemas/extension.ts'

/** Words of names, tags and descriptions. */
export const words = [
  'kubernetes',
  'postgres',
  'cluster',
  'storage',
  'network',
  'backup',
  'metrics',
  'ingress',
  'registry',
  'cache',
  'queue',
  'gateway',
  'container',
  'runtime',
  'firewall',
  'balancer',
  'monitor',
  'scheduler',
  'volume',
  'secret',
  'policy',
  'mesh',
  'proxy',
  'search',
  'stream',
  'object',
  'vault',
  'dns',
  'mail',
  'identity',
  'logging',
  'tracing',
  'snapshot',
  'replica',
  'compute',
  'edge',
  'region'
] as const

const word = (number: number): string => words[number % words.length] ?? ''

/** Metadata of an extension of the benchmarks; the same number always has the same metadata. */
export interface Described { type: ExtensionType, name: string, description: string, tags: string[] }

export function describe (number: number): Described {
  const turn = Math.floor(number / words.length)
  const sentence = Array.from({ length: 12 }, (_, at) => word(number * 5 + at * 7 + turn))
  return {
    type: extensionTypes[number % extensionTypes.length] ?? 'provider',
    name: `${word(number)}-${word(number * 3 + turn)}-${number}`,
    description: `Installs ${sentence.slice(0, 6).join(' ')} for ${sentence.slice(6).join(' ')}`,
    tags: [word(number + 1), word(number * 2 + turn)]
  }
}
