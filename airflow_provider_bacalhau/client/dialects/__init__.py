"""The primitive operations on the wire: one class for each of Bacalhau's HTTP APIs."""
