#!/usr/bin/env bash
# Takes a base backup and keeps those of the last week.
set -euo pipefail

target="/var/backups/postgres"
pg_basebackup --pgdata "$target/$(date --utc +%Y%m%d)" --format tar --gzip --checkpoint fast
find "$target" -mindepth 1 -maxdepth 1 -type d -mtime +7 -exec rm --recursive {} +
