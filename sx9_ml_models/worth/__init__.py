"""What each feed is worth to a model: its lineage rebuilt without the feed, beside the one with all of them."""
