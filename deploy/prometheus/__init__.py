"""The configuration and the rules of Prometheus, which `sx9 up --monitoring` starts it with."""
