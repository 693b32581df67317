#!/usr/bin/env bash
# Makes prometheus-rule.yaml of the alerts in docker/prometheus/alerts.yaml, which stay the only ones that are edited.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
{
  cat << 'HEAD'
# Made by make-rule.sh of docker/prometheus/alerts.yaml: edit that file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ebs
spec:
HEAD
  sed 's/^\(.\)/  \1/' ../../../prometheus/alerts.yaml
} > prometheus-rule.yaml
