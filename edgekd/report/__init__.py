"""Reports a person or a CI reads: pages of plots, SARIF, JUnit."""
