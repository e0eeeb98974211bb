"""The bundled pair: weights of a student and a teacher, what they find, and hashes of the files in `index.json`."""
