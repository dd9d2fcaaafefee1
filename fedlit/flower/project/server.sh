#!/bin/sh
# Starts the server. Arguments are options of flower-superlink, such as --insecure, --port 9000 or --database FILE.
# Telemetry and the check for newer versions are off, and nothing is installed for a run.
exec python3 -m fedlit.flower.start server "$@"
