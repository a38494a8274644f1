import { LRUCache } from 'lru-cache'

/** Values of `Accept-Encoding` of which it is remembered what they ask for. */
const rememberedValues = 500

/**
 * The coding that a client likes best (RFC 9110, section 12.5.3); of those that it likes alike, the first one here.
 * Undefined when it wants the bytes as they are rather, or accepts no other form of them.
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

/** Chooses among these codings. Clients of a kind all say the same, which is read once. */
export function createCodingChoice<C extends string> (codings: readonly C[]) {
  const chosen = new LRUCache<string, { coding: C | undefined }>({ max: rememberedValues })
  return (accepted: string): C | undefined => {
    let choice = chosen.get(accepted)
    if (choice === undefined) chosen.set(accepted, choice = { coding: preferredCoding(codings, accepted) })
    return choice.coding
  }
}
