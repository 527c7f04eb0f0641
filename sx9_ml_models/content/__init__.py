"""`threat_content_fetcher.py`: fetch the sources into a folder, make files of them, and train the models."""
