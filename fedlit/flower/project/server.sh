#!/bin/sh
# Starts the server. Options of flower-superlink can be given, such as --insecure, --port 9000 or --database FILE.
# Telemetry and the look for newer versions are off, and nothing is installed for a run.
exec python3 -m fedlit.flower.start server "$@"
