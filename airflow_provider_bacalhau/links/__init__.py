"""Extra links of the Bacalhau provider."""
