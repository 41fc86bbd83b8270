"""The adapters, each with the real library; `make test-adapters` installs those."""
