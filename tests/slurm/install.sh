#!/usr/bin/env bash
# Install Debian's packages of SLURM if they are missing; if that fails the tests are skipped with the reason.
set -euo pipefail

if command -v slurmctld slurmd munged >/dev/null; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "SLURM is not installed: that needs root and apt-get"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null ||
    echo "SLURM is not installed: the packages slurm-wlm and munge could not be installed"
