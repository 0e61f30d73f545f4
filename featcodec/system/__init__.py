"""What the machine gives: files, paths, devices, cores."""
