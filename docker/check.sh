#!/usr/bin/env bash
# Checks what is in docker/: Dockerfile, compose file, every overlay of kubernetes/, alerts. Part of `make check`.
# A tool that is not installed is passed over with a word; with CI set it is an error (.ci/install-tools has them all).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bin="$PWD/../.venv/bin"
PATH="$bin:$PATH:$HOME/go/bin"

present() {
  command -v "$1" > /dev/null && return
  echo "$1 is not installed, so $2 is not checked: $3" >&2
  [ -z "${CI:-}" ] || exit 1
  return 1
}

hadolint Dockerfile ../tests/compose/*/Dockerfile
check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml
tests=(../tests/unit/test_docker_settings.py)
if present kustomize 'kubernetes/' 'go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.1'; then
  tests+=(../tests/kubernetes)
fi
python -m pytest --quiet --no-header -c ../pyproject.toml --rootdir .. "${tests[@]}"
if present promtool 'prometheus/' "Debian's package prometheus has it"; then
  promtool check config prometheus/prometheus.yaml
  promtool check rules --lint=all --lint-fatal prometheus/alerts.yaml
  promtool test rules prometheus/alerts.test.yaml
fi
