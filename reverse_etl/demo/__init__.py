"""The story that the repository's own syncs tell, on a sample warehouse and the sandbox."""
