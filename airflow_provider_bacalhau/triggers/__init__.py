"""Triggers of the Bacalhau provider."""
