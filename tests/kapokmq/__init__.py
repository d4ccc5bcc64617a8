"""Tests of the KapokMQ client, on a stand-in for its server; ``python -m tests.kapokmq`` runs that alone."""
