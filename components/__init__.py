"""One module per step; each is called by its flags, from DVC and from Kubeflow alike."""
