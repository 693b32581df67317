#!/usr/bin/env bash
# Installs Debian's Chromium without windows where no browser is, and in CI, for the dashboard's tests; says what to do
# where it cannot.
# A failure ends nothing: without a browser the tests are skipped with the reason, and under CI they fail with it.
set -uo pipefail

may_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; }

command -v chromium-headless-shell > /dev/null && exit 0
for name in chromium chromium-browser google-chrome; do
  command -v "$name" > /dev/null || continue
  # It does, too, for twice the CPU time: only CI installs the other one beside it.
  if [ -z "${CI:-}" ] || ! may_install; then exit 0; fi
done
if ! may_install; then
  echo 'no Chromium is installed: the tests in tests/browser need one (Debian: apt-get install chromium-headless-shell)' >&2
  exit 0
fi
echo 'installing Chromium for tests/browser, only this once' >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
install() { apt-get install --quiet --quiet --yes --no-install-recommends -o DPkg::Lock::Timeout=300 "$1" > /dev/null; }
install chromium-headless-shell || install chromium ||
  echo 'Chromium could not be installed: see above' >&2
exit 0
