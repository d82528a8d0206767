"""What every room uses and none owns: text, files, devices, processes. It knows the errors and torch only."""
