import type { WriteVResult } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { registryError } from '../../../../lib/errors.ts'
import type { PartialFile } from '../../../../plugins/downloads/store/partial-files.ts'
import {
  openVerifiedSource,
  type VerifiedSource,
  type VerifiedSourceOptions
} from '../../../../plugins/downloads/transfer/verified-source.ts'
import { createGrowingReader, createDirectReader } from '../../../../plugins/downloads/transfer/reader.ts'
import type { OpenAt, DownloadSource } from '../../../../plugins/downloads/transfer/source.ts'
import { createReadBudget } from '../../../../plugins/downloads/transfer/read-buffers.ts'
import { createTransfer } from '../../../../plugins/downloads/transfer/transfer.ts'
import { digestOf, fileOf } from '../../../fakes/storage.ts'

const content = fileOf(1_000_000)
const file = { name: 'x.tar.gz', size: content.length, checksum: digestOf(content), validator: 'one' }
const broken = registryError('service_unavailable', 'broken', { instance: 'a' })
const budget = createReadBudget(10_000)
const maxHeldBytes = () => 1024 * 1024

/** Creates an upstream in memory that fails once at each offset of `breaks`. */
function createOrigin (
  instance: string,
  { bytes = content, breaks = [], ranges = true, size = 50_000 }: {
    bytes?: Buffer,
    breaks?: number[],
    ranges?: boolean,
    size?: number
  } = {}
) {
  const requested: number[] = []
  function * send (from: number): Generator<Buffer> {
    for (let at = from; at < bytes.length; at += size) {
      const end = breaks.findIndex(offset => offset >= at && offset < at + size)
      if (end !== -1) {
        const [cut = at] = breaks.splice(end, 1)
        yield bytes.subarray(at, cut)
        throw broken
      }
      // A copy: the memory of a chunk is freed after its use.
      yield Buffer.from(new Uint8Array(bytes.subarray(at, at + size)).buffer)
    }
  }
  const origin: DownloadSource = {
    instance,
    async open ({ offset }: OpenAt) {
      requested.push(offset)
      const from = ranges ? offset : 0
      return {
        file,
        stream: Readable.from(send(from), { objectMode: false }),
        offset: from,
        length: bytes.length,
        etag: '"x"'
      }
    }
  }
  return { origin, requested }
}

async function flowOf (
  origins: DownloadSource[],
  options: Partial<VerifiedSourceOptions> = {}
): Promise<VerifiedSource> {
  const flow = await openVerifiedSource({
    file,
    sources: origins,
    signal: new AbortController().signal,
    wait: async () => {},
    random: () => 0,
    ...options
  })
  if (flow === undefined) throw new Error('is there')
  return flow
}

/** Creates a file to write to, with room for this number of bytes. */
async function partialOf (
  t: Test,
  room = Infinity
): Promise<PartialFile & { committed: string[], closed: Promise<void> }> {
  const path = join(t.testdir(), 'partial')
  const handle = await open(path, 'wx+')
  const committed: string[] = []
  const closed = Promise.withResolvers<void>()
  let written = 0
  return {
    handle,
    committed,
    closed: closed.promise,
    reserve: () => true,
    grow: bytes => (written += bytes) <= room,
    commit: async digest => committed.push(digest) > 0,
    close: async () => {
      await handle.close()
      await rm(path)
      closed.resolve()
    }
  }
}
const all = async (flow: VerifiedSource) => await buffer(createDirectReader(flow, { start: 0, end: content.length }))

await t.test('a source resumes after a failure, and all of its bytes are verified', async t => {
  for (const ranges of [true, false]) {
    const { origin, requested } = createOrigin('a', { breaks: [123_456, 500_000, 999_999], ranges })
    const resumed: string[] = []
    t.ok((await all(await flowOf([origin], { onResume: instance => { resumed.push(instance) } }))).equals(content))
    t.strictSame(requested, [0, 123_456, 500_000, 999_999])
    t.equal(resumed.length, 3)
  }
})

await t.test('a source without progress fails, and a source with progress continues', async t => {
  const stuck = createOrigin('a', { breaks: Array.from({ length: 20 }, () => 500_000) })
  await t.rejects(all(await flowOf([stuck.origin])), broken)
  t.equal(stuck.requested.length, 6)
  const slow = createOrigin('a', { breaks: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(times => times * 70_000) })
  t.ok((await all(await flowOf([slow.origin]))).equals(content))
})

await t.test('a source continues with another instance when its instance fails', async t => {
  const owner = createOrigin('a', { breaks: [400_000, 400_001, 400_002, 400_003] })
  const other = createOrigin('b')
  const from: string[] = []
  t.ok((await all(
    await flowOf([owner.origin, other.origin], {
      onBytes: instance => {
        if (from.at(-1) !== instance) from.push(instance)
      }
    })
  )).equals(content))
  t.strictSame(from, ['a', 'b'])
  t.ok(
    (await all(
      await flowOf([{
        instance: 'a',
        open: async () => {
          throw broken
        }
      }, other.origin])
    )).equals(content),
    'another instance is used if the first one never sent a byte'
  )
  await t.rejects(
    flowOf([{
      instance: 'a',
      open: async () => {
        throw broken
      }
    }, { instance: 'b', open: async () => undefined }]),
    broken
  )
  t.equal(
    await openVerifiedSource({
      file,
      sources: [{ instance: 'a', open: async () => undefined }, other.origin],
      signal: new AbortController().signal
    }),
    undefined,
    'an absence at the owner is final'
  )
})

await t.test('a file that is too long fails at once, and a short or damaged file fails at its end', async t => {
  const damaged: Array<[string, Buffer]> = [['File is longer', Buffer.concat([content, Buffer.alloc(1)])], [
    'File is damaged',
    fileOf(content.length, 'another')
  ]]
  for (const [details, bytes] of damaged) {
    const damages: string[] = []
    const { origin, requested } = createOrigin('a', { bytes })
    await t.rejects(
      all(
        await flowOf([origin], {
          onDamage: instance => {
            damages.push(instance)
          }
        })
      ),
      { code: 'service_unavailable', details: new RegExp(details) }
    )
    t.strictSame([damages, requested], [['a'], [0]], 'a damaged file is not requested again')
  }
  await t.rejects(all(await flowOf([createOrigin('a', { bytes: content.subarray(0, 999_000) }).origin])), {
    code: 'service_unavailable',
    details: 'Response is incomplete'
  })
  const { checksum: _, size: __, ...unknown } = file
  const { origin } = createOrigin('a')
  const nameless: DownloadSource = {
    instance: 'a',
    open: async at => {
      const opened = await origin.open(at)
      return opened && { file: unknown, stream: opened.stream }
    }
  }
  const settled: string[] = []
  t.ok((await buffer(createDirectReader(
    await flowOf([nameless], {
      settle: async (_, digest) => {
        settled.push(digest)
      }
    }),
    { start: 0 }
  ))).equals(content))
  t.strictSame(settled, [digestOf(content)], 'without a known digest, the digest is settled before the end of the file')
})

await t.test('a file without a digest has the same content from its beginning to its end, or fails', async t => {
  const { checksum: _, ...unknown } = file
  const [before, after] = [
    createOrigin('a', { breaks: [500_000], ranges: false }),
    createOrigin('a', { bytes: fileOf(content.length, 'another'), ranges: false })
  ]
  let opened = 0
  const replaced: DownloadSource = {
    instance: 'a',
    open: async at => {
      const found = await (opened++ === 0 ? before : after).origin.open(at)
      return found && { ...found, file: unknown }
    }
  }
  let seen = 0
  const damages: string[] = []
  const flow = await flowOf([replaced], {
    file: unknown,
    onDamage: instance => {
      damages.push(instance)
    }
  })
  await t.rejects(async () => {
    for await (const chunk of createDirectReader(flow, { start: 0, end: content.length })) {
      seen += (chunk as Buffer).length
    }
  }, { code: 'service_unavailable', details: 'File changed while it was read' })
  t.ok(seen <= 500_000, 'the beginning of one file is never followed by the end of another')
  t.strictSame(damages, ['a'])
})

await t.test('readers of a transfer in progress get the complete file at their own pace, and it is stored', async t => {
  const partial = await partialOf(t)
  const transfer = createTransfer({
    source: await flowOf([createOrigin('a', { breaks: [300_000] }).origin]),
    partial,
    maxHeldBytes,
    abort: () => {}
  })
  const read = async (start: number, end: number) => {
    const letGo = transfer.hold()
    const bytes = await buffer(createGrowingReader(transfer.growing, { start, end, budget }))
    letGo()
    return bytes
  }
  const [whole, part, tail] = await Promise.all([
    read(0, content.length),
    read(1000, 70_000),
    read(999_990, content.length)
  ])
  t.ok(whole.equals(content))
  t.ok(part.equals(content.subarray(1000, 70_000)))
  t.ok(tail.equals(content.subarray(999_990)))
  await transfer.done
  await partial.closed
  t.strictSame(partial.committed, [digestOf(content)])
})

/** A file that does not fit in the memory of a transfer. */
const large = fileOf(8_000_000)
const largeFile = { ...file, size: large.length, checksum: digestOf(large) }

/** Creates a transfer of the large file from an origin, to a disk with room for some bytes. */
async function transferOf (t: Test, origin: DownloadSource, room: number) {
  const partial = await partialOf(t, room)
  let aborted = 0
  const transfer = createTransfer({
    source: await flowOf([{
      ...origin,
      open: async at => {
        const opened = await origin.open(at)
        return opened && { ...opened, file: largeFile }
      }
    }], { file: largeFile }),
    partial,
    maxHeldBytes,
    abort: () => { aborted++ }
  })
  const read = async (start: number, end: number) => {
    const letGo = transfer.hold()
    return await buffer(createGrowingReader(transfer.growing, { start, end, budget })).finally(letGo)
  }
  return { partial, transfer, read, aborted: () => aborted }
}

await t.test('when the disk is full, readers continue with requests of their own and miss no bytes', async t => {
  for (const room of [0, 1, 4_200_000]) {
    const { origin, requested } = createOrigin('a', { bytes: large })
    const { partial, transfer, read, aborted } = await transferOf(t, origin, room)
    const [whole, part] = await Promise.all([read(0, large.length), read(5, 10)])
    t.ok(whole.equals(large), String(room))
    t.ok(part.equals(large.subarray(5, 10)))
    await transfer.settled
    await partial.closed
    t.strictSame([aborted(), partial.committed.length, requested.length], [1, 0, 3])
  }
  const wrong = createOrigin('a', { bytes: fileOf(large.length, 'another') })
  const { transfer } = await transferOf(t, wrong.origin, 4_200_000)
  const letGo = transfer.hold()
  let seen = 0
  await t.rejects(async () => {
    for await (const chunk of createGrowingReader(transfer.growing, { start: 0, end: large.length, budget })) {
      seen += (chunk as Buffer).length
    }
  }, { code: 'service_unavailable', details: 'File is damaged' })
  letGo()
  t.ok(seen <= large.length - 32 * 1024, 'the end of a damaged file is not sent')
})

await t.test('readers get the last bytes from memory when the disk refuses them; nothing is stored', async t => {
  for (const room of [large.length - 1, large.length - 40_000]) {
    const { origin, requested } = createOrigin('a', { bytes: large })
    const { partial, transfer, read, aborted } = await transferOf(t, origin, room)
    const letGo = transfer.hold()
    t.ok((await read(0, large.length)).equals(large))
    await transfer.settled
    t.ok((await read(large.length - 10, large.length)).equals(large.subarray(-10)), 'later readers get them too')
    letGo()
    await partial.closed
    t.strictSame([aborted(), partial.committed.length, requested.length], [0, 0, 1])
  }
})

await t.test('a reader gets the same bytes from memory and from disk at any speed', async t => {
  const { origin } = createOrigin('a', { bytes: large, size: 65_536 })
  const { transfer, partial } = await transferOf(t, origin, Infinity)
  const letGo = transfer.hold()
  const read = async (start: number, pauses: number) => {
    const chunks: Buffer[] = []
    const wide = createReadBudget(4_000_000)
    const reader = createGrowingReader(transfer.growing, { start, end: large.length, budget: wide })
    for await (const chunk of reader) {
      chunks.push(chunk as Buffer)
      if (chunks.length <= pauses) await sleep(25)
    }
    return Buffer.concat(chunks)
  }
  const starts = [0, 0, 1, 65_535, 65_536, 3_999_999, 7_999_999]
  const all = await Promise.all(starts.map(async (start, pauses) => await read(start, pauses * 2)))
  for (const [number, start] of starts.entries()) t.ok(all[number]?.equals(large.subarray(start)), String(start))
  letGo()
  await partial.closed
  t.strictSame(partial.committed, [digestOf(large)])
})

await t.test('after a failed write, readers get the bytes that were not written from memory', async t => {
  const { origin } = createOrigin('a', { bytes: large })
  const { partial, read, aborted } = await transferOf(t, origin, Infinity)
  const { writev } = partial.handle
  let writes = 0
  partial.handle.writev = async <T extends readonly NodeJS.ArrayBufferView[]>(chunks: T, position?: number) => {
    writes++
    const result = await writev.call(partial.handle, chunks, position) as WriteVResult<T>
    if (writes === 3) throw Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO' })
    return result
  }
  t.ok((await read(0, large.length)).equals(large))
  await partial.closed
  t.strictSame([aborted(), writes, partial.committed], [1, 3, []])
})

await t.test('a source is aborted when its only reader stops', async t => {
  const signals: AbortSignal[] = []
  const { origin } = createOrigin('a', { bytes: large })
  const { partial, transfer } = await transferOf(t, {
    instance: 'a',
    open: async at => {
      signals.push(at.signal)
      return await origin.open(at)
    }
  }, 100_000)
  const letGo = transfer.hold()
  const reader = createGrowingReader(transfer.growing, { start: 0, end: large.length, budget })
  for await (const chunk of reader) if ((chunk as Buffer).length > 16 * 1024) break
  letGo()
  t.equal(signals.at(-1)?.aborted, true)
  await partial.closed
})
