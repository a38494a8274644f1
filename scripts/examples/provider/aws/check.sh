#!/usr/bin/env bash
# Tells whether the credentials in the environment work in a region.
set -euo pipefail

region="$1"
account=$(aws sts get-caller-identity --region "$region" --query Account --output text)
echo "aws @VERSION@: account $account can be used in $region"
