"""The service over HTTP. Routes turn JSON into values, call services, and turn values into JSON. No rule lives here."""
