#!/bin/sh
# Starts a run of this project and shows its output. Arguments are options of flwr run, such as
#   ./run.sh -c 'args="--ckpt_path last"'
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
cd "$(dirname "$0")" || exit 2
export FLWR_HOME="$PWD/.flwr"
exec flwr run . --stream "$@"
