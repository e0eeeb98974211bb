#!/bin/sh
# Plays a cluster on this machine: PostgreSQL, an S3 server, Ray, three ingests behind HAProxy, two controls, two pages, and an
# edge with two cameras; kills its parts, and prints what was lost. Some four minutes on two cores that have nothing else to do.
#
#   deploy/try-cluster.sh [--no-ray] [--kills 8] [--minutes 20] [--folder DIR]
#
# It needs what `make test` installs, and PostgreSQL and HAProxy: apt-get install postgresql haproxy.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-.venv/bin/python}" tests/bench/try_cluster.py "$@"
