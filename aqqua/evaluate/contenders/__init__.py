"""What is judged: models of this project and of others, and baselines, all asked in the same way."""
