"""What people said of frames, which overrules the teacher."""
