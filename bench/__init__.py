"""The figures that the README claims, each measured beside a peer or a limit in the same run (`make bench`)."""
