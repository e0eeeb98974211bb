"""From a camera's address to its newest frame: opening, decoding, pacing, and noticing a stream that stalls."""
