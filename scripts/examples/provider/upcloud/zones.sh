#!/usr/bin/env bash
# Lists the zones that the account may use.
set -euo pipefail

curl --fail --silent --user "$UPCLOUD_USERNAME:$UPCLOUD_PASSWORD" \
  https://api.upcloud.com/1.3/zone | jq -r '.zones.zone[] | [.id, .description] | @tsv'
