"""One module per family of commands; each is thin over the packages below."""
