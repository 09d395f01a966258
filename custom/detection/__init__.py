"""A bundle's detector kept in memory, and where bundles and weights are found for it."""
