#!/bin/sh
# Starts a site: site.sh FILE.yaml, and options of flower-supernode, such as --insecure or --superlink HOST:PORT.
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
file=$(realpath "${1:?give the file of the site}") && shift || exit 2
exec flower-supernode --node-config "site=\"$file\"" "$@"
