"""What labels mean: the class lists that they were made for, and what becomes of them when a camera gets another."""
