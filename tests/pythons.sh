#!/usr/bin/env bash
# The quick tests, and the demo on a real Kafka, with each Python that we support and that is on this machine:
# `pythons.sh [3.12 ...]`.
# Each has a virtual environment of its own, .venv-3.x, made once; the one of .venv is tested by `make test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  local candidate
  for candidate in "python$1" "$HOME"/.pyenv/versions/"$1".*/bin/python; do
    if "$candidate" -c 'import ensurepip, venv' 2> /dev/null; then
      echo "$candidate"
      return
    fi
  done
}

own="$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
[ $# -gt 0 ] || set -- 3.11 3.12 3.13 3.14
for version in "$@"; do
  python="$(find_python "$version")"
  environment=".venv-$version"
  if [ "$version" = "$own" ]; then
    echo "Python $version: make test runs with it"
    continue
  elif [ -z "$python" ]; then
    echo "Python $version: not on this machine"
    continue
  fi
  if [ ! "$environment/.installed" -nt constraints.txt ] || [ ! "$environment/.installed" -nt pyproject.toml ]; then
    "$python" -m venv --clear "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
    touch "$environment/.installed"
  fi
  echo "Python $version: $("$environment/bin/python" --version)"
  "$environment/bin/python" -m pytest --quiet -p no:cacheprovider -n 3 tests/unit tests/functional
  "$environment/bin/ebs" demo --objects 100 --exit
done
