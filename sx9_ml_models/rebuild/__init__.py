"""The versions of a model trained again from its journal, as they were or without what is to be taken out."""
