import { LRUCache } from 'lru-cache'

/** Maximum number of `Accept-Encoding` values in the cache. */
const rememberedValues = 500

/**
 * Returns the content coding with the highest weight (RFC 9110, section 12.5.3); for equal weights, the first in
 * `codings`. Returns undefined when the client accepts none of them or gives `identity` a higher weight.
 */
export function preferredCoding<C extends string> (codings: readonly C[], accepted: string): C | undefined {
  const weights = new Map(accepted.toLowerCase().split(',').map((member): [string, number] => {
    const [coding = '', ...parameters] = member.split(';').map(part => part.trim())
    const weight = parameters.find(parameter => parameter.startsWith('q='))?.slice(2)
    return [coding, weight === undefined ? 1 : Number(weight) || 0]
  }))
  const weightOf = (coding: string): number => weights.get(coding) ?? weights.get('*') ?? 0
  const [best] = [...codings].sort((a, b) => weightOf(b) - weightOf(a))
  return best !== undefined && weightOf(best) > 0 && weightOf(best) >= (weights.get('identity') ?? 0) ? best : undefined
}

/**
 * Creates a function that chooses one of the codings. Results are cached, because clients of one kind send the same
 * value.
 */
export function createCodingChoice<C extends string> (codings: readonly C[]) {
  const chosen = new LRUCache<string, { coding: C | undefined }>({ max: rememberedValues })
  return (accepted: string): C | undefined => {
    let choice = chosen.get(accepted)
    if (choice === undefined) chosen.set(accepted, choice = { coding: preferredCoding(codings, accepted) })
    return choice.coding
  }
}
