"""The command line: thin over the packages below; the demo and the supervisor of processes live here too."""
