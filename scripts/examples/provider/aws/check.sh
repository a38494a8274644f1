#!/usr/bin/env bash
# Checks in one region the credentials that are in the environment.
set -euo pipefail

region="$1"
account=$(aws sts get-caller-identity --region "$region" --query Account --output text)
echo "aws @VERSION@: account $account can be used in $region"
