import { ConfigError } from '../../../lib/config/parse.ts'
import { loadConfig, type ConfigSources, type LoadedConfig } from '../../../lib/config/load.ts'

/** A Gitea instance with the required keys only. */
export const gitea = { url: 'https://git.example.com', organization: 'infra' }

/** An OCI instance with the required keys only. */
export const oci = { registry: '/srv/layouts' }

/** An OCI instance on a server, with the required keys only. */
export const registry = { registry: 'https://registry.example.com' }

/** The environment variables of {@link gitea}. */
export const giteaVariables = { REGISTRY_GITEA_URL: gitea.url, REGISTRY_GITEA_ORGANIZATION: gitea.organization }

/** Returns the one-line message of a ConfigError, or "no error". */
export async function refusal (read: () => unknown): Promise<string> {
  try {
    await read()
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  return 'no error'
}

/** Loads the configuration of a process whose environment is empty unless given. */
export async function load (sources: Partial<ConfigSources>): Promise<LoadedConfig> {
  return await loadConfig({ env: {}, cwd: '/nowhere', ...sources })
}

/** Returns the one-line message if the configuration of such a process is refused. */
export async function loadRefusal (sources: Partial<ConfigSources>): Promise<string> {
  return await refusal(async () => await load(sources))
}
