"""The documents' own programs: the reference is generated, the picture is drawn from a real run."""
