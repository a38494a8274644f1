import t from 'tap'
import { bytesOf, digestOf, fileOf, listenBeforeStorage } from '../fakes/storage.ts'
import { matchStrictly } from '../fakes/match.ts'

const file = fileOf(300_000)
const etag = `"${digestOf(file)}"`

await t.test('parts of a file', async t => {
  const { url, storage, idle } = await listenBeforeStorage(t, file)
  const get = async (headers: Record<string, string>, method = 'GET') => await fetch(url, { method, headers })
  for (const where of ['during the transfer', 'from the store']) {
    const response = await get({ range: 'bytes=100-299' })
    t.equal(response.status, 206, where)
    matchStrictly(t, Object.fromEntries(response.headers), {
      'content-range': 'bytes 100-299/300000',
      'content-length': '200',
      'accept-ranges': 'bytes',
      etag,
      'content-disposition': /big\.tar\.gz/,
      'repr-digest': /^sha-256=:/
    })
    t.ok((await bytesOf(response)).equals(file.subarray(100, 300)))
    await idle()
  }
  t.equal(storage.requests.length, 1)

  await t.test('are sent for each form of a range', async t => {
    for (
      const [range, start, end] of [['bytes=0-', 0, 300_000], ['bytes=-500', 299_500, 300_000], [
        'bytes=299999-',
        299_999,
        300_000
      ], ['bytes=100000-400000', 100_000, 300_000]] as const
    ) {
      const reply = await get({ range })
      matchStrictly(
        t,
        [reply.status, reply.headers.get('content-range')],
        [206, `bytes ${start}-${end - 1}/300000`],
        range
      )
      t.ok((await bytesOf(reply)).equals(file.subarray(start, end)))
    }
  })

  await t.test('are not sent for several ranges, another unit or an invalid header, which get the file', async t => {
    for (const range of ['bytes=0-1,5-6', 'lines=1-2', 'bytes=5-1', 'x']) {
      const result = await get({ range })
      matchStrictly(t, [result.status, result.headers.get('content-range')], [200, null], range)
      t.ok((await bytesOf(result)).equals(file))
    }
  })

  await t.test('are refused with 416 beyond its end', async t => {
    for (const range of ['bytes=300000-', 'bytes=-0']) {
      const ranged = await get({ range })
      matchStrictly(t, [ranged.status, ranged.headers.get('content-range'), ranged.headers.get('etag')], [
        416,
        'bytes */300000',
        null
      ], range)
      matchStrictly(t, await ranged.json(), {
        error: 'range_not_satisfiable',
        message: 'The file has no such range: it has 300000 bytes'
      })
    }
  })

  await t.test('are sent with If-Range for the same file only', async t => {
    t.equal((await get({ range: 'bytes=5-', 'if-range': etag })).status, 206)
    for (const other of ['"another"', `W/${etag}`, 'Mon, 15 Jan 2025 10:30:00 GMT']) {
      const ranged = await get({ range: 'bytes=5-', 'if-range': other })
      t.equal(ranged.status, 200, other)
      t.ok((await bytesOf(ranged)).equals(file))
    }
    t.equal(
      (await get({ range: 'bytes=300000-', 'if-range': '"another"' })).status,
      200,
      'a failed If-Range ignores the range'
    )
  })

  await t.test('form the file when they are requested concurrently', async t => {
    const parts = await Promise.all(
      [0, 1, 2, 3, 4, 5].map(async at =>
        await bytesOf(await get({ range: `bytes=${at * 50_000}-${at * 50_000 + 49_999}` }))
      )
    )
    t.ok(Buffer.concat(parts).equals(file))
  })

  await t.test('are sent neither for HEAD nor for a matching If-None-Match', async t => {
    const head = await get({ range: 'bytes=5-' }, 'HEAD')
    matchStrictly(t, [
      head.status,
      head.headers.get('content-length'),
      head.headers.get('content-range'),
      head.headers.get('accept-ranges')
    ], [200, '300000', null, 'bytes'])
    t.equal((await get({ range: 'bytes=5-', 'if-none-match': etag })).status, 304)
    t.equal((await get({ 'if-modified-since': new Date().toUTCString() })).status, 200, 'no 304 by date')
  })
  t.equal(storage.requests.length, 1, 'all parts came from the store')
})

await t.test('an empty file is complete, and every range of it is refused', async t => {
  const { url, storage, idle } = await listenBeforeStorage(t, Buffer.alloc(0))
  for (let times = 0; times < 2; times++) {
    const response = await fetch(url)
    matchStrictly(t, [response.status, response.headers.get('content-length'), (await bytesOf(response)).length], [
      200,
      '0',
      0
    ])
    await idle()
  }
  t.equal(storage.requests.length, 1)
  t.equal((await fetch(url, { headers: { range: 'bytes=0-' } })).status, 416)
})
