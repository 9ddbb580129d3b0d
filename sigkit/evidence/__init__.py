"""Evidence: pure parsers of bundles, envelopes, statements and cosign's older form; beside them what finds and stores it."""
