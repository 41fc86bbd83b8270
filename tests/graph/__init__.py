"""Tests of graph: the server as a whole, over HTTP and WebSockets, on both databases."""
