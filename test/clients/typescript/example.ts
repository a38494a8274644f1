import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import createClient from 'openapi-fetch'
import type { paths } from './generated/registry.ts'

const registry = createClient<paths>({ baseUrl: process.env.REGISTRY ?? 'http://localhost:8082' })
const path = { type: 'taskserv', name: 'kubernetes' } as const

const { data: extension, error } = await registry.GET('/api/v1/extensions/{type}/{name}', { params: { path } })
if (extension === undefined) throw new Error(error?.message)

const file = await registry.GET('/api/v1/extensions/{type}/{name}/{version}', {
  params: { path: { ...path, version: extension.version } },
  parseAs: 'stream'
})
if (!file.data) throw new Error(file.error?.message)
await pipeline(Readable.from(file.data), createWriteStream('kubernetes.tar.gz'))
console.log(`${extension.version}, to be checked: ${extension.checksum}`)
