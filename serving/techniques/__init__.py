"""What events say about techniques: texts, each with the techniques that it is about."""
