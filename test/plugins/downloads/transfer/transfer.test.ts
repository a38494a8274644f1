import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { registryError } from '../../../../lib/errors.ts'
import type { PartialFile } from '../../../../plugins/downloads/store/blobs.ts'
import {
  openVerifiedSource,
  type VerifiedSource,
  type VerifiedSourceOptions
} from '../../../../plugins/downloads/transfer/verified-source.ts'
import { createGrowingReader, createDirectReader } from '../../../../plugins/downloads/transfer/reader.ts'
import type { OpenAt, DownloadSource } from '../../../../plugins/downloads/transfer/source.ts'
import { createTransfer } from '../../../../plugins/downloads/transfer/transfer.ts'
import { digestOf, fileOf } from '../../../fakes/storage.ts'

const content = fileOf(1_000_000)
const file = { name: 'x.tar.gz', size: content.length, checksum: digestOf(content), validator: 'one' }
const broken = registryError('service_unavailable', 'broken', { instance: 'a' })
const maxBytes = () => 10_000

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
      yield bytes.subarray(at, at + size)
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
    abort: () => {}
  })
  const read = async (start: number, end: number) => {
    const letGo = transfer.hold()
    const bytes = await buffer(createGrowingReader(transfer.growing, { start, end, maxBytes }))
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

await t.test('when the disk is full, readers continue with requests of their own and miss no bytes', async t => {
  for (const room of [0, 1, 420_000, 990_000]) {
    const { origin, requested } = createOrigin('a')
    const partial = await partialOf(t, room)
    let aborted = 0
    const transfer = createTransfer({ source: await flowOf([origin]), partial, abort: () => { aborted++ } })
    const read = async (start: number, end: number) => {
      const letGo = transfer.hold()
      return await buffer(createGrowingReader(transfer.growing, { start, end, maxBytes })).finally(letGo)
    }
    const [whole, part] = await Promise.all([read(0, content.length), read(5, 10)])
    t.ok(whole.equals(content), String(room))
    t.ok(part.equals(content.subarray(5, 10)))
    await transfer.settled
    await partial.closed
    t.strictSame([aborted, partial.committed.length, requested.length], [1, 0, 3])
  }
  const wrong = createOrigin('a', { bytes: fileOf(content.length, 'another') })
  const transfer = createTransfer({
    source: await flowOf([wrong.origin]),
    partial: await partialOf(t, 420_000),
    abort: () => {}
  })
  const letGo = transfer.hold()
  let seen = 0
  await t.rejects(async () => {
    for await (const chunk of createGrowingReader(transfer.growing, { start: 0, end: content.length, maxBytes })) {
      seen += (chunk as Buffer).length
    }
  }, { code: 'service_unavailable', details: 'File is damaged' })
  letGo()
  t.ok(seen <= content.length - 32 * 1024, 'the end of a damaged file is not sent')
})

await t.test('a source is aborted when its only reader stops', async t => {
  const partial = await partialOf(t, 100_000)
  const signals: AbortSignal[] = []
  const { origin } = createOrigin('a')
  const flow = await flowOf([{
    instance: 'a',
    open: async at => {
      signals.push(at.signal)
      return await origin.open(at)
    }
  }])
  const transfer = createTransfer({ source: flow, partial, abort: () => {} })
  const letGo = transfer.hold()
  const reader = createGrowingReader(transfer.growing, { start: 0, end: content.length, maxBytes })
  for await (const chunk of reader) if ((chunk as Buffer).length > 10_000) break
  letGo()
  t.ok(signals.at(-1)?.aborted)
  await partial.closed
})
