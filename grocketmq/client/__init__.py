"""What all clients of one process share: settings, name servers, routes, heartbeats, the scheduled tasks."""
