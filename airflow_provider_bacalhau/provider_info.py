"""What Airflow's registry is told about this provider.

Airflow calls :func:`get_provider_info` in every process, from 3.3 on while ``import airflow`` itself is still running,
and an exception here stops all of Airflow. Hence one literal: no import, no computation (``tests/distribution`` checks
it). Class paths begin with ``airflow.providers.bacalhau`` because Airflow drops others; see ``registry/``.
"""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's entry in Airflow's registry: classes, connection type and connection form.

    ``conn-fields`` and ``ui-field-behaviour`` are read by Airflow 3.2 and later. Older ones ask the hook, which answers
    from the same dict (:mod:`airflow_provider_bacalhau.connection_form`).
    """
    return {
        "package-name": "apache-airflow-providers-bacalhau",
        "name": "Bacalhau",
        "description": (
            "`Bacalhau <https://www.bacalhau.org/>`__ runs Docker and WebAssembly jobs on many machines, "
            "next to the data."
        ),
        "integrations": [
            {
                "integration-name": "Bacalhau",
                "external-doc-url": "https://docs.bacalhau.org/",
                "tags": ["service"],
            }
        ],
        "hooks": [
            {
                "integration-name": "Bacalhau",
                "python-modules": ["airflow.providers.bacalhau.hooks.bacalhau"],
            }
        ],
        "operators": [
            {
                "integration-name": "Bacalhau",
                "python-modules": ["airflow.providers.bacalhau.operators.bacalhau"],
            }
        ],
        "sensors": [
            {
                "integration-name": "Bacalhau",
                "python-modules": ["airflow.providers.bacalhau.sensors.bacalhau"],
            }
        ],
        "triggers": [
            {
                "integration-name": "Bacalhau",
                "python-modules": ["airflow.providers.bacalhau.triggers.bacalhau"],
            }
        ],
        "config": {
            "bacalhau": {
                "description": "Bacalhau provider",
                "options": {
                    "deployment_id": {
                        "description": (
                            "What tells this Airflow from others that use the same Bacalhau network and may have equal "
                            "run ids. Jobs are labelled with a hash of it. The same on all workers and triggerers; by "
                            "default the address of this Airflow."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "production",
                        "default": None,
                    },
                },
            },
        },
        "extra-links": ["airflow.providers.bacalhau.links.bacalhau.BacalhauJobLink"],
        "connection-types": [
            {
                "connection-type": "bacalhau",
                "hook-name": "Bacalhau",
                "hook-class-name": "airflow.providers.bacalhau.hooks.bacalhau.BacalhauHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "extra"],
                    "relabeling": {
                        "host": "API host or URL",
                        "port": "API port",
                        "login": "User name (leave empty for an API key or token)",
                        "password": "Password, API key or token",
                    },
                    "placeholders": {
                        "host": "bacalhau.example.org or https://bacalhau.example.org",
                        "port": "1234",
                        "ca_file": "/etc/ssl/certs/bacalhau-ca.pem",
                        "client_cert": "/etc/ssl/certs/bacalhau-client.pem",
                        "client_key": "/etc/ssl/private/bacalhau-client.key",
                        "private_key": "-----BEGIN RSA PRIVATE KEY----- ...",
                        "key_file": "/run/secrets/bacalhau/user_id.pem",
                        "namespace": "default",
                        "timeout": "30",
                        "ipfs_gateway": "http://127.0.0.1:8080",
                        "web_ui_url": "http://bacalhau.example.org:8438",
                    },
                },
                # Airflow shows stars for a field, and masks its value in logs, when its name holds a word that it takes
                # for sensitive: here private_key and passphrase.
                "conn-fields": {
                    "auth": {
                        "label": "Authentication",
                        "description": (
                            "How to identify oneself. 'auto': a user name and its password, a password alone as an API "
                            "key or token, and with neither a client key, once the server asks. Otherwise one of "
                            "'none', 'basic', 'bearer', 'client_key'."
                        ),
                        "schema": {
                            "type": "string",
                            "enum": ["auto", "none", "basic", "bearer", "client_key"],
                            "default": "auto",
                        },
                    },
                    "private_key": {
                        "label": "Client key",
                        "description": (
                            "RSA key in PEM, as in user_id.pem of the official tools. It signs requests to servers "
                            "before v1.4, and earns a token where 'client_key' is the authentication."
                        ),
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "private_key_passphrase": {
                        "label": "Client key passphrase",
                        "description": "Passphrase of the client key, when that is encrypted.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "key_file": {
                        "label": "Client key's file",
                        "description": "Path of the client key on each Airflow machine, instead of the key itself.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "use_tls": {
                        "label": "Use TLS",
                        "description": "Speak https to the API. Not needed when the host is a full URL.",
                        "schema": {"type": "boolean", "default": False},
                    },
                    "verify": {
                        "label": "Verify certificate",
                        "description": "Check the server's TLS certificate. Switch off only for a test network.",
                        "schema": {"type": "boolean", "default": True},
                    },
                    "ca_file": {
                        "label": "CA file",
                        "description": (
                            "Path, on each Airflow machine, of a PEM file with the certificate authorities to trust "
                            "instead of the usual ones."
                        ),
                        "schema": {"type": ["string", "null"]},
                    },
                    "client_cert": {
                        "label": "Client certificate",
                        "description": "Path of a PEM file, for a server that asks for a client certificate.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "client_key": {
                        "label": "Client certificate's key",
                        "description": "Path of the client certificate's key, when that is not in the same file.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "namespace": {
                        "label": "Namespace",
                        "description": "Namespace of jobs that name none themselves; 'default' when empty.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "timeout": {
                        "label": "Timeout",
                        "description": "Seconds to wait for one answer of the API, not for a job; 30 when empty.",
                        "schema": {"type": ["integer", "null"], "minimum": 1},
                    },
                    "ipfs_gateway": {
                        "label": "IPFS gateway",
                        "description": "URL of a gateway that can read the network's results, for paths below a CID.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "web_ui_url": {
                        "label": "Web UI",
                        "description": "URL of Bacalhau's web interface, where a task's link to its job leads.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "api": {
                        "label": "API",
                        "description": (
                            "Which of Bacalhau's two APIs to speak. 'auto' finds out, 'orchestrator' is that of newer "
                            "servers, 'requester' the signed one of servers before v1.4."
                        ),
                        "schema": {"type": "string", "enum": ["auto", "orchestrator", "requester"], "default": "auto"},
                    },
                },
            }
        ],
    }
