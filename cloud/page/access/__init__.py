"""Who asks the page for something, what that person may see, and on what it may act."""
