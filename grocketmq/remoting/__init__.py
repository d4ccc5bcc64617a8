"""The only place with sockets: connections, calls over them, and the server side of the same frames."""
