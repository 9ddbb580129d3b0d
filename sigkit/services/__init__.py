"""Services: a private registry in one process, for air-gapped hosts, development and tests."""
