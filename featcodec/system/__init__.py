"""Access to the machine: files, paths, devices and CPU cores."""
