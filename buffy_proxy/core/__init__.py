"""Pure decisions: values in, decision out. No socket, file, clock, random or logger in here."""
