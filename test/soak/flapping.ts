import { setTimeout as sleep } from 'node:timers/promises'
import type { FaultAction, Loopback, LoopbackRequest } from '../fakes/loopback.ts'

/** Returns numbers in [0, 1), the same for the same seed (mulberry32). */
export function createRandom (seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export const moods = ['refused', 'hanging', '500', 'reset', 'truncated', 'slow', '429', 'damaged'] as const
export type Mood = typeof moods[number] | 'healthy'

const text = (status: number, headers = {}): FaultAction => ({
  status,
  headers: { 'content-type': 'text/plain', ...headers },
  body: 'fault'
})

/** Applies each fault to an upstream for some seconds, with a healthy pause after it. The order depends on the seed. */
export function createFlapping (upstream: Loopback, seed: number) {
  const random = createRandom(seed)
  const over = new AbortController()
  let mood: Mood = 'healthy'
  let requests = 0
  const seen = new Map<Mood, number>()

  async function act ({ path }: LoopbackRequest): Promise<FaultAction | undefined> {
    requests++
    // The fake keeps every request for short tests. Here they would fill the memory.
    upstream.requests.length = 0
    if (mood === 'hanging') return 'hang'
    if (mood === '500') return text(500)
    if (mood === 'reset') return 'refuse-reset'
    if (mood === 'truncated') return 'truncate'
    if (mood === '429') return text(429, { 'retry-after': '1' })
    if (mood === 'slow') await sleep(20 + random() * 80)
    // Only content with a digest is damaged, because damage of a file without a digest cannot be detected.
    if (mood === 'damaged' && path.includes('/blobs/')) {
      return { status: 200, headers: { 'content-type': 'application/octet-stream' }, body: 'damaged' }
    }
    return undefined
  }

  async function enter (next: Mood): Promise<void> {
    mood = next
    seen.set(next, (seen.get(next) ?? 0) + 1)
    if (next === 'refused') await upstream.stop()
    else await upstream.start()
  }

  async function run (): Promise<void> {
    const rest = async () => { await sleep(1000 + random() * 3000, undefined, { signal: over.signal }) }
    try {
      for (;;) {
        // Each fault occurs once before any of them repeats.
        for (const next of moods.map(mood => ({ mood, order: random() })).sort((a, b) => a.order - b.order)) {
          await enter(next.mood)
          await rest()
          await enter('healthy')
          await rest()
        }
      }
    } catch (error) {
      if (!over.signal.aborted) throw error
    }
    await enter('healthy')
  }

  upstream.fault = act
  let done: Promise<void> = Promise.resolve()
  return {
    start (): void { done = run() },
    /** Stops the faults; the upstream is healthy afterwards. */
    stop: async (): Promise<void> => {
      over.abort()
      await done
    },
    /** Returns the number of times that each mood began. */
    seen: (): ReadonlyMap<Mood, number> => seen,
    /** Returns the number of requests that arrived. */
    requests: (): number => requests
  }
}
export type Flapping = ReturnType<typeof createFlapping>
