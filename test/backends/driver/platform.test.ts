import t from 'tap'
import { describePlatform, parsePlatform, platformOf } from '../../../backends/driver/platform.ts'

await t.test('a platform has one spelling for all common names of its parts', t => {
  const spellings: Record<string, string[]> = {
    'linux/amd64': ['linux/amd64', 'Linux/AMD64', 'linux/x86_64', 'linux/x86-64', 'linux/x64', 'linux/amd64/v1'],
    'linux/amd64/v3': ['linux/amd64/v3', 'linux/x86_64/3'],
    'linux/arm64': ['linux/arm64', 'linux/aarch64', 'linux/arm64/v8', 'linux/aarch64/8'],
    'linux/arm64/v9': ['linux/arm64/v9'],
    'linux/arm/v7': ['linux/arm', 'linux/arm/v7', 'linux/arm/7', 'linux/armhf', 'linux/armv7', 'linux/armv7l'],
    'linux/arm/v6': ['linux/arm/v6', 'linux/armel', 'linux/armv6', 'linux/armv6l'],
    'linux/386': ['linux/386', 'linux/i386', 'linux/i686', 'linux/x86'],
    'darwin/arm64': ['darwin/arm64', 'macos/aarch64', 'macOS/arm64'],
    'linux/riscv64': ['linux/riscv64'],
    'windows/amd64': ['windows/amd64', 'Windows/x86_64']
  }
  for (const [platform, texts] of Object.entries(spellings)) {
    for (const text of texts) t.equal(describePlatform(parsePlatform(text)), platform, text)
  }
  t.end()
})

await t.test('the platform of a descriptor is read in the same way, and an incomplete or malformed one is ' +
  'absent', t => {
  const described = (value: unknown) => {
    const platform = platformOf(value)
    return platform === undefined ? undefined : describePlatform(platform)
  }
  t.equal(
    described({ os: 'linux', architecture: 'arm64', variant: 'v8', 'os.version': '1', 'os.features': [] }),
    'linux/arm64'
  )
  t.equal(described({ os: 'Linux', architecture: 'x86_64' }), 'linux/amd64')
  t.equal(described({ os: 'linux', architecture: 'arm', variant: 7 }), 'linux/arm/v7')
  t.equal(described({ os: 'linux', architecture: 'arm', variant: '' }), 'linux/arm/v7')
  for (
    const absent of [undefined, null, 'linux/arm64', [], {}, { os: 'linux' }, { architecture: 'arm64' }, {
      os: '',
      architecture: ''
    }, { os: 7, architecture: 'arm64' }]
  ) t.equal(described(absent), undefined, JSON.stringify(absent))
  t.end()
})
