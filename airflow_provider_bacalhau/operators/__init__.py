"""Operators of the Bacalhau provider."""
