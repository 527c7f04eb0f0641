"""What all feeds share: the feed spec, the run, the diff, the index of what is published, cursors and limits."""
