"""Published experiments, run again and drawn."""
