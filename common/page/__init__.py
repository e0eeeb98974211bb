"""What the pages of both sides share: modules joined into one document, and who may ask for what."""
