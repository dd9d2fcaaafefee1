"""What all else stands on: records, flat states, exact sums, seeds, errors, files. It imports nothing above it."""
