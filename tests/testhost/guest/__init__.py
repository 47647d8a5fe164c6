"""The half that runs inside the test host, on its own Python, standard library only."""
