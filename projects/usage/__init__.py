"""What providers were used for, whoever ordered it."""
