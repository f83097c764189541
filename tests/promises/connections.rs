//! Connections: HTTP/2, TLS, deadlines, drains, the ports beside.
