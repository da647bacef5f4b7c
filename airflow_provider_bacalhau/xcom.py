"""The XCom keys under which this provider's tasks leave what others may need: part of the public interface."""

from __future__ import annotations

from typing import Final

JOB_ID: Final = "bacalhau_job_id"
"""The job's id, right after it was submitted."""

JOB_URL: Final = "job_url"
"""Where a person can look at the job, right after it was submitted."""

RESULTS: Final = "results"
"""References to the job's results: a list of dicts, see ``ResultReference.to_dict``. Never a signed address."""

CIDS: Final = "cids"
"""CIDs of the job's results, joined by commas; empty when it does not publish to IPFS."""

JOB_STATE: Final = "job_state"
"""The state in which the job ended, such as ``Completed``."""

EXIT_CODES: Final = "exit_codes"
"""Exit codes of the job's completed executions: a list of integers, −1 for a WebAssembly program that just returned."""

EXECUTION_COUNTS: Final = "execution_counts"
"""How many executions were ``wanted``, ``completed``, ``succeeded`` and ``failed``: a dict of integers."""

FAILURE_CATEGORY: Final = "failure_category"
"""Why the task failed: a name of ``FailureCategory``. Pushed on failure only."""
