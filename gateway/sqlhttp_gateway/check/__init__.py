"""`sqlhttp check`: each thing that can be wrong with a deployment, said plainly, with a number and a remedy."""
