"""The bench harness: builds the C programs, runs subjects in turn, compares them with the floors."""
