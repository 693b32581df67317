#!/usr/bin/env bash
# Installs Debian's Chromium where no browser is, for the dashboard's tests; says what to do where it cannot.
# A failure ends nothing: without a browser the tests are skipped with the reason, and under CI they fail with it.
set -uo pipefail

for name in chromium chromium-browser google-chrome; do
  command -v "$name" > /dev/null && exit 0
done
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
  echo 'no Chromium is installed: the tests in tests/browser need one (Debian: apt-get install chromium)' >&2
  exit 0
fi
echo 'installing Chromium for tests/browser, only this once' >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
apt-get install --quiet --quiet --yes --no-install-recommends -o DPkg::Lock::Timeout=300 chromium > /dev/null ||
  echo 'Chromium could not be installed: see above' >&2
exit 0
