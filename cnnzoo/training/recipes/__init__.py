"""The recipes that come with cnnzoo, a file for each."""
