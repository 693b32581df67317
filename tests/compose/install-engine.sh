#!/usr/bin/env bash
# Installs what `make test-compose` uses where it is missing: Debian with root.
set -euo pipefail
missing=()
wanted() { command -v "$1" > /dev/null || missing+=("$2"); }
wanted dockerd docker.io
wanted iptables iptables
wanted docker-compose docker-compose
wanted mmdebstrap mmdebstrap
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update --quiet --quiet
  DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "${missing[@]}" > /dev/null
fi
