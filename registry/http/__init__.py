"""What the services over HTTP share, and who asks the registry's."""
