#!/bin/sh
# Starts a site: ./site.sh FILE.yaml, then options of flower-supernode, such as --insecure or --superlink HOST:PORT.
# Telemetry and the check for newer versions are off.
exec python3 -m fedlit.flower.start site "$@"
