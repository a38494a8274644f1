import { ConfigError } from '../../../lib/config/parse.ts'
import { loadConfig, type ConfigSources, type LoadedConfig } from '../../../lib/config/load.ts'

/** A Gitea instance with nothing but what it must have. */
export const gitea = { url: 'https://git.example.com', organization: 'infra' }

/** An OCI instance with nothing but what it must have. */
export const oci = { registry: '/srv/layouts' }

/** An OCI instance that is a server, with nothing but what it must have. */
export const registry = { registry: 'https://registry.example.com' }

/** The environment that makes {@link gitea}. */
export const giteaVariables = { REGISTRY_GITEA_URL: gitea.url, REGISTRY_GITEA_ORGANIZATION: gitea.organization }

/** The one line that a configuration is refused with. */
export async function refusal (read: () => unknown): Promise<string> {
  try {
    await read()
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  return 'no error'
}

/** Loads what a process would that has no environment but the given one. */
export async function load (sources: Partial<ConfigSources>): Promise<LoadedConfig> {
  return await loadConfig({ env: {}, cwd: '/nowhere', ...sources })
}

/** The one line that the start of such a process is refused with. */
export async function loadRefusal (sources: Partial<ConfigSources>): Promise<string> {
  return await refusal(async () => await load(sources))
}
