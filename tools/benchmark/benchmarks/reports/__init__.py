"""Tables, plots and files of measured results."""
