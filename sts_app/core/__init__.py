"""What every room leans on, and no business word: database, web answers, queue, clock, tokens, logs."""
