"""Hooks of the Bacalhau provider."""
