"""Sensors of the Bacalhau provider."""
