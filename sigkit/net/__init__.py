"""The only room that connects to other hosts: one set of rules over two ways to send one request."""
