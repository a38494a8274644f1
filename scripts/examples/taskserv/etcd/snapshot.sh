#!/usr/bin/env bash
# Takes a snapshot of this member and keeps the last eight.
set -euo pipefail

target="/var/backups/etcd"
pki="/etc/etcd/pki"
mkdir -p "$target"
etcdctl --endpoints https://127.0.0.1:2379 --cacert "$pki/ca.crt" --cert "$pki/client.crt" --key "$pki/client.key" \
  snapshot save "$target/$(date --utc +%Y%m%dT%H%M%SZ).db"
find "$target" -name '*.db' | sort --reverse | tail --lines +9 | xargs --no-run-if-empty rm --
