"""What differs between the server versions that the embedded node can play.

One row for each version; everything that asks "which version?" asks here. Facts: runs of the real servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Emulation:
    """One server version, as its clients see it.

    :param version: what ``GET /agent/version`` calls ``GitVersion``.
    :param minimum_client: clients that announce an older version are turned away with 403.
    :param body_limit: bytes of a request body; one more is 413.
    :param output_limit: bytes of stdout and stderr kept in an execution record.
    :param exit_code_digits: characters of the exit code that a node of this version writes into the result's
        ``exitCode`` file (seen on v1.9.3: exit code 4294967295 leaves ``4294``).
    :param history_page: events in one answer of the history when the client sets no limit.
    :param needs_name_section: modules without a section of names are refused.
    :param oversubscription: a node takes jobs until this multiple of its capacity is asked for.
    """

    version: str
    minimum_client: str = "1.4.0"
    body_limit: int = 10_000_000
    output_limit: int = 2048
    exit_code_digits: int = 4
    history_page: int = 100
    oversubscription: float = 1.5
    needs_name_section: bool = True

    @property
    def build_info(self) -> dict[str, str]:
        """The body of ``GET /agent/version``. Commit and date are placeholders: nothing was built."""
        major, minor, _ = self.version.removeprefix("v").split(".")
        return {
            "Major": major,
            "Minor": minor,
            "GitVersion": self.version,
            "GitCommit": "0" * 40,
            "BuildDate": "1970-01-01T00:00:00Z",
            "GOOS": "linux",
            "GOARCH": "amd64",
        }

    @property
    def headers(self) -> dict[str, str]:
        """The response headers by which a server tells its version."""
        info = self.build_info
        return {
            "X-Bacalhau-Arch": info["GOARCH"],
            "X-Bacalhau-Build-Date": "1970-01-01 00:00:00 +0000 UTC",
            "X-Bacalhau-Build-Os": info["GOOS"],
            "X-Bacalhau-Git-Commit": info["GitCommit"],
            "X-Bacalhau-Git-Version": info["GitVersion"],
        }


EMULATIONS: Mapping[str, Emulation] = {
    row.version: row
    for row in (
        Emulation(version="v0.3.29", needs_name_section=False),
        Emulation(version="v1.0.3", needs_name_section=False),
        Emulation(version="v1.1.6", needs_name_section=False),
        Emulation(version="v1.3.2"),
        Emulation(version="v1.9.3"),
    )
}


def emulation(version: str) -> Emulation:
    """The row of one version.

    :raises ValueError: a version that cannot be emulated; the message names those that can.
    """
    try:
        return EMULATIONS[version]
    except KeyError:
        known = ", ".join(EMULATIONS)
        raise ValueError(f"cannot emulate {version!r}; what can be emulated: {known}") from None
