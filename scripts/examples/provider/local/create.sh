#!/usr/bin/env bash
# Creates one server: create.sh NAME [IMAGE]
set -euo pipefail

name="$1"
image="$(test $# -gt 1 && echo "$2" || echo debian:12)"
podman network exists provisioning || podman network create provisioning
podman run --detach --name "$name" --hostname "$name" --network provisioning \
  --label provisioning.provider=local-@VERSION@ --systemd=always "$image" /sbin/init
