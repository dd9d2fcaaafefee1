#!/bin/sh
# Starts the server. Options of flower-superlink can be given, such as --insecure, --port 9000 or --database FILE.
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
exec flower-superlink --disable-runtime-dependency-installation "$@"
