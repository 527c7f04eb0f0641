"""The routes: each module has a router, and says what goes over the wire; what is answered is decided elsewhere."""
