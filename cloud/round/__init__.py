"""One turn of the loop for one camera, from labels to a candidate that passed the gate, in its own process."""
