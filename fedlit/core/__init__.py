"""The foundation of all packages: records, flat states, exact sums, seeds, errors, files. It imports only native."""
