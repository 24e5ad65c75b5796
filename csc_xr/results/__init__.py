"""Results of many runs: read from their records, put into tables and figures."""
