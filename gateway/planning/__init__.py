"""Whom to ask and what is proved by it: decisions without sockets and without a clock."""
