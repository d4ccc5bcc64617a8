"""What the programs with threads send, and how much."""

TOPIC = "threads"
THREADS, SENDS = 6, 20
