"""What the applications under test send to and consume."""

TOPIC = "web"
JOBS, DONE = "jobs", "done"
