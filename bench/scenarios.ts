import { createRandom } from '../test/soak/flapping.ts'
import { createAddresses, createSequence } from './mix.ts'
import { describe, words } from './words.ts'

/** Number of extensions in the upstream. */
export const extensions = 1200

/** Scenario of the benchmark. */
export interface Scenario {
  name: string
  paths: readonly string[]
  /** Sends the ETag of an earlier response. */
  conditional?: boolean
  /** Set if the catalog is refreshed repeatedly during the measurement. */
  refreshing?: boolean
}

const path = '/api/v1/extensions'

/** Creates the scenarios, which are the same for each run. */
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
    // The path differs from list(10), so that servers without conditional requests can distinguish the two.
    { name: '304', paths: [`${path}?limit=10&offset=0`], conditional: true },
    { name: 'mix', paths: mix },
    { name: 'mix, refreshing', paths: mix, refreshing: true }
  ]
}
