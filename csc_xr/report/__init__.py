"""Reports: one page of HTML that holds the scores, figures and pictures of runs."""
