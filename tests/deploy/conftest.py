"""What pytest leaves out here: scripts that run in other virtual environments, without our packages."""

collect_ignore = ["kubernetes_schemas.py"]
