#!/usr/bin/env bash
# Installs containerd @VERSION@ and verifies the downloaded archive.
set -euo pipefail

arch="$(dpkg --print-architecture)"
file="containerd-@VERSION@-linux-$arch.tar.gz"
base="https://github.com/containerd/containerd/releases/download/v@VERSION@"
cd "$(mktemp --directory)"
curl --fail --location --remote-name-all "$base/$file" "$base/$file.sha256sum"
sha256sum --check "$file.sha256sum"
tar --extract --gzip --file "$file" --directory /usr/local

mkdir -p /etc/containerd
containerd config default | sed 's/SystemdCgroup = false/SystemdCgroup = true/' > /etc/containerd/config.toml
systemctl restart containerd
