"""The explanations of error codes, one file for each family."""
