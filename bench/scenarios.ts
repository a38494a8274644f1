import { createRandom } from '../test/soak/flapping.ts'
import { createAddresses, createSequence } from './mix.ts'
import { describe, words } from './words.ts'

/** Extensions that the upstream has. */
export const extensions = 1200

/** One thing that is measured. */
export interface Scenario {
  name: string
  paths: readonly string[]
  /** Sends the ETag of the answer back. */
  conditional?: boolean
  /** Measured while the catalog is read anew again and again. */
  refreshing?: boolean
}

const path = '/api/v1/extensions'

/** The same things each time. */
export function createScenarios (): Scenario[] {
  const random = createRandom(7)
  const catalog = Array.from({ length: extensions }, (_, number) => describe(number))
  const { type, name } = describe(100)
  const mix = createSequence(createAddresses(catalog, random), random)
  return [
    ...[10, 100, 1000].map(limit => ({ name: `list(${limit})`, paths: [`${path}?limit=${limit}`] })),
    { name: 'search', paths: [`${path}/search?q=${words[0]}`] },
    { name: 'metadata', paths: [`${path}/${type}/${name}`] },
    { name: 'versions', paths: [`${path}/${type}/${name}/versions`] },
    { name: 'health', paths: ['/api/v1/health'] },
    // Spelled differently from list(10), so that servers that know no conditions can tell it.
    { name: '304', paths: [`${path}?limit=10&offset=0`], conditional: true },
    { name: 'mix', paths: mix },
    { name: 'mix, refreshing', paths: mix, refreshing: true }
  ]
}
