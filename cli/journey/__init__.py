"""The demo's story: two users, a bank, payment providers, two chains. `cli.demo` runs what it plays on."""
