"""Other rules of retraining, tried on the journal that there is: compared, drawn and written to files."""
