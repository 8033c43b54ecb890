"""What training and serving both need. Importing this package imports nothing else."""
