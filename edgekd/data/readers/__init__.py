"""One module for each dataset, or family of datasets; importing it registers it. A new dataset is a new file here."""
